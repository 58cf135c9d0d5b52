"""Chooses the integer ranges of one attention layer, per head, by the error of its output on calibration texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...attention import InhibitorScalars, inhibitor_attention
from ...attention.integer import QuantParams, integer_attention
from ...attention.integer.qparams import Bits

# Fractions of the observed range to try; 16 bits are fine enough for all of it.
_SHRINKS: dict[int, tuple[float, ...]] = {8: (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5), 16: (1.0,)}
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

    @torch.no_grad()
    def best_qparams(self, scalars: InhibitorScalars, bits: Bits, options: dict[str, Any]) -> QuantParams:
        """Search, per head, the fractions of the observed ranges with the least squared error of attention outputs.

        options: `signed` and `center` of the layer. Raises ValueError if nothing was seen.
        """
        if self.low is None or self.high is None or self.value_range is None:
            raise ValueError("no queries were seen")
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        exact = [
            inhibitor_attention(q, k, v, **scalars.as_arguments(), key_padding_mask=valid, **options)
            for q, k, v, valid in self.batches
        ]

        def make_qparams(features: Tensor, values: Tensor) -> QuantParams:
            """features, values: (H,), fractions of the range of q and k, and of v."""
            assert self.value_range is not None
            width = half * features[:, None]
            return QuantParams.from_ranges(
                middle - width, middle + width, self.value_range * values, **scalars.as_arguments(), bits=bits
            )

        count = middle.shape[0]
        least, best = torch.full((count,), torch.inf), torch.ones(2, count)
        for fraction in _SHRINKS[bits]:
            for value_fraction in _SHRINKS[bits]:
                tried = torch.tensor([[fraction], [value_fraction]]).expand(2, count)
                error = self._error(make_qparams(*tried), exact, options)
                best = torch.where(error < least, tried, best)
                least = torch.minimum(error, least)
        return make_qparams(*best)

    def _error(self, qparams: QuantParams, exact: list[Tensor], options: dict[str, Any]) -> Tensor:
        """Squared error of the attention outputs of valid queries, (H,)."""
        total = torch.zeros(qparams.sign.shape[0])
        for (q, k, v, valid), target in zip(self.batches, exact, strict=True):
            ours = integer_attention(q, k, v, qparams, key_padding_mask=valid, **options)
            total += ((ours - target).square() * valid[:, None, :, None]).sum((0, 2, 3))
        return total
