"""Values less their mean over the keys: an option beyond the paper.

    H_i = v̄ + η (n₀/n)^ρ · Σ_j shrink(v_j − v̄, Z_ij),   v̄ = mean of v_j over the n valid keys

The rows of a softmax sum to one, so what is common to all values passes whole. Shrinkage about zero passes
η (n₀/n)^ρ times the number of keys that are open of it; shrinkage about the mean passes it whole again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..attention.call import ModelCenter


class CenteredValues(NamedTuple):
    """values: (B, H, N, D) less `mean`, (B, H, 1, D) of the same dtype; None where nothing is subtracted."""

    values: Tensor
    mean: Tensor | None

    def restore(self, output: Tensor) -> Tensor:
        """Attention outputs (B, H·groups, Nq, D) with the mean added again."""
        if self.mean is None:
            return output
        groups = output.shape[1] // self.mean.shape[1]
        return output + (self.mean if groups == 1 else self.mean.repeat_interleave(groups, 1))


def center_values(values: Tensor, valid: Tensor | None, center: ModelCenter) -> CenteredValues:
    """Values as `center`, a config's `inhibitor_value_center`, wants them shrunk, and the mean to add again.

    values: (B, H, N, D), any floating dtype; valid: (B, N) bool, or None when all keys are. A sequence without valid
    keys has mean 0. Raises ValueError for a mask per query, under which every query has a mean of its own.
    """
    if center == "none":
        return CenteredValues(values, None)
    if valid is None:
        mean = values.mean(-2, keepdim=True)
        return CenteredValues(values - mean, mean)
    if valid.dim() != 2:
        raise ValueError(
            "inhibitor_value_center='mean' takes a key padding mask (batch, keys): under a mask per query, "
            f"{tuple(valid.shape)}, every query has a mean of its own; use inhibitor_value_center='none'"
        )
    if valid.dtype != torch.bool:
        raise ValueError(f"a key padding mask must be bool with True = valid, got {valid.dtype}")
    present = valid[:, None, :, None]
    values = values.masked_fill(~present, 0.0)  # NaN in padding must not reach the mean
    count = present.sum(-2, keepdim=True).clamp(min=1)
    total = values.sum(-2, keepdim=True, dtype=torch.promote_types(values.dtype, torch.float32))
    mean = (total / count).to(values.dtype)
    return CenteredValues(values - mean, mean)
