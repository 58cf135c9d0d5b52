"""Watches the inputs of one attention layer, for its integer ranges to be chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...attention import InhibitorScalars
from ...attention.integer import QuantParams
from ...attention.integer.qparams import Bits
from .search import Search

_SAMPLE_TEXTS = 16


@dataclass
class AttentionInputs:
    """Inputs of one attention layer: (H, D) least and greatest q and k, (H,) greatest |v|, and a few whole batches."""

    low: Tensor | None = None
    high: Tensor | None = None
    value_range: Tensor | None = None
    batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)
    texts: int = 0

    def add(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> None:
        """q, k, v: (B, H, N, D); valid: (B, N) bool. Raises ValueError if they are not finite."""
        features, values = (t.transpose(1, 2)[valid] for t in (torch.stack([q, k], -1), v))  # (tokens, H, D, …)
        if not bool(features.isfinite().all() & values.isfinite().all()):
            raise ValueError("queries, keys or values are not finite")
        low, high = features.amin((0, 3)), features.amax((0, 3))
        value_range = values.abs().amax((0, 2))
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)
        self.value_range = value_range if self.value_range is None else torch.maximum(self.value_range, value_range)
        if self.texts < _SAMPLE_TEXTS:
            self.batches.append((q, k, v, valid))
            self.texts += q.shape[0]

    def best_qparams(
        self, scalars: InhibitorScalars, bits: Bits, options: dict[str, Any], *, split: bool = True
    ) -> QuantParams:
        """The ranges with the least squared error of attention outputs, per head.

        options: `signed` and `center` of the layer. split: whether wide features are split where it pays. Raises
        ValueError if nothing was seen.
        """
        if self.low is None or self.high is None or self.value_range is None:
            raise ValueError("no queries were seen")
        ranges = (self.low.double(), self.high.double(), self.value_range.double())
        return Search(*ranges, self.batches, scalars.as_arguments(), bits, options).run(split=split)
