"""Values less their mean over the keys: an option beyond the paper.

    H_i = v̄ + η (n₀/n)^ρ · Σ_j shrink(v_j − v̄, Z_ij),   v̄ = mean of v_j over the valid keys

The rows of a softmax sum to one, so what is common to all values passes whole. Shrinkage about zero passes η times the
number of keys that are open of it, about half in trained students; shrinkage about the mean passes it whole again
(docs/distillation.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class CentredValues(NamedTuple):
    """values: (B, H, N, D) less their mean, which is (B, H, 1, D)."""

    values: Tensor
    mean: Tensor

    def restore(self, context: Tensor) -> Tensor:
        """The mean added to contexts (B, H·groups, Nq, D)."""
        groups = context.shape[1] // self.mean.shape[1]
        return context + (self.mean if groups == 1 else self.mean.repeat_interleave(groups, 1))


def centre_values(values: Tensor, valid: Tensor | None = None) -> CentredValues:
    """values: (B, H, N, D); valid: (B, N) bool, or None when all keys are. A text without valid keys has mean 0.

    Raises ValueError for a mask per query, under which every query has a mean of its own.
    """
    if valid is None:
        mean = values.mean(-2, keepdim=True)
    elif valid.dim() != 2:
        raise ValueError(
            "inhibitor_value_center='mean' takes a key padding mask (batch, keys): under a mask per query, "
            f"{tuple(valid.shape)}, every query has a mean of its own; use inhibitor_value_center='none'"
        )
    else:
        present = valid[:, None, :, None]
        values = values.masked_fill(~present, 0.0)  # NaN in padding must not reach the mean
        count = present.sum(-2, keepdim=True).clamp(min=1)
        total = values.sum(-2, keepdim=True, dtype=torch.promote_types(values.dtype, torch.float32))
        mean = (total / count).to(values.dtype)
    return CentredValues(values - mean, mean)
