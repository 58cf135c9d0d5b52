"""Quantization parameters of one attention layer, chosen by the error of its outputs on real text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...attention import InhibitorScalars, inhibitor_attention
from ...attention.integer import QuantParams, integer_attention
from ...attention.integer.qparams import Bits

# Shares of the whole range; 16 bits have steps to spare.
_SHRINKS: dict[int, tuple[float, ...]] = {8: (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5), 16: (1.0,)}
_SAMPLE_TEXTS = 16


@dataclass
class HeadInputs:
    """What went into one layer: (H, D) least and greatest q and k, (H,) greatest |v|, and a few whole batches."""

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
        """Per head the shares of the ranges of q and k, and of v, with the least squared error of the contexts.

        options: `signed` and `center` of the layer. Raises ValueError if nothing was seen.
        """
        if self.low is None or self.high is None or self.value_range is None:
            raise ValueError("no queries were seen")
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        exact = [
            inhibitor_attention(q, k, v, **scalars.as_arguments(), key_padding_mask=valid, **options)
            for q, k, v, valid in self.batches
        ]

        def qparams_of(features: Tensor, values: Tensor) -> QuantParams:
            """For shares of the ranges per head, (H,)."""
            assert self.value_range is not None
            width = half * features[:, None]
            return QuantParams.from_ranges(
                middle - width, middle + width, self.value_range * values, **scalars.as_arguments(), bits=bits
            )

        count = middle.shape[0]
        least, best = torch.full((count,), torch.inf), torch.ones(2, count)
        for share in _SHRINKS[bits]:
            for value_share in _SHRINKS[bits]:
                tried = torch.tensor([[share], [value_share]]).expand(2, count)
                error = self._error(qparams_of(*tried), exact, options)
                best = torch.where(error < least, tried, best)
                least = torch.minimum(error, least)
        return qparams_of(*best)

    def _error(self, qparams: QuantParams, exact: list[Tensor], options: dict[str, Any]) -> Tensor:
        """Squared error of the contexts of valid queries, (H,)."""
        total = torch.zeros(qparams.sign.shape[0])
        for (q, k, v, valid), target in zip(self.batches, exact, strict=True):
            ours = integer_attention(q, k, v, qparams, key_padding_mask=valid, **options)
            total += ((ours - target).square() * valid[:, None, :, None]).sum((0, 2, 3))
        return total
