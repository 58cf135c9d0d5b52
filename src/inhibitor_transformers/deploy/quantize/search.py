"""Chooses the integer ranges of one attention layer, per head, by the error of its output on calibration texts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...attention import inhibitor_attention
from ...attention.integer import QuantParams, integer_attention
from ...attention.integer.qparams import Bits

# Of the observed range to try, of q and k and of v; 16 bits are fine enough for all of it.
_FRACTIONS: dict[int, tuple[float, ...]] = dict.fromkeys((3, 4, 5, 6, 8), (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5))
_FRACTIONS |= {16: (1.0,)} | {bits: (*_FRACTIONS[bits], 0.4, 0.3) for bits in (3, 4, 5)}
# Features added to those of a head, as fractions of these, and how much of the error at most they must leave.
_EXTRA_FEATURES = (1 / 8, 1 / 4, 1 / 2, 1.0)
_WORTH_SPLITTING = 0.9


class Search:
    """The search over one layer's ranges.

    low, high: (H, D) and value_range: (H,) float64, as observed. batches: q, k, v (B, H, N, D) and valid (B, N) bool.
    scalars: γ, η, δ, ρ and n₀ as arguments of `inhibitor_attention`; options: its `signed` and `center`.
    """

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        value_range: Tensor,
        batches: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]],
        scalars: dict[str, Any],
        bits: Bits,
        options: dict[str, Any],
    ) -> None:
        self.middle, self.half, self.value_range = (high + low) / 2, (high - low) / 2, value_range
        self.batches, self.scalars, self.bits, self.options = batches, scalars, bits, options

    @torch.no_grad()
    def run(self, *, split: bool) -> QuantParams:
        """The best parameters; with `split`, of as many features as pay."""
        dim = self.middle.shape[1]
        best, error = self.best(dim)
        for extra in _EXTRA_FEATURES if split and self.bits < 16 else ():  # 16 bits are fine enough as they are
            finer, less = self.best(dim + math.ceil(dim * extra))
            if float(less.sum()) > _WORTH_SPLITTING * float(error.sum()):
                break
            best, error = finer, less
        return best

    def best(self, features: int) -> tuple[QuantParams, Tensor]:
        """The best parameters with so many features, and the squared error of each head's output, (H,)."""
        heads = self.middle.shape[0]
        least, best = torch.full((heads,), torch.inf), torch.ones(2, heads, dtype=torch.float64)
        for fractions in itertools.product(_FRACTIONS[self.bits], repeat=2):
            tried = torch.tensor(fractions, dtype=torch.float64)[:, None].expand(2, heads)
            error = self._error(self._make(features, *tried))
            best = torch.where(error < least, tried, best)
            least = torch.minimum(error, least)
        return self._make(features, *best), least

    def _make(self, features: int, fraction: Tensor, value_fraction: Tensor) -> QuantParams:
        """Parameters for fractions (H,) of the ranges of q and k, and of v."""
        half = self.half * fraction[:, None]
        ranges = (self.middle - half, self.middle + half, self.value_range * value_fraction)
        return QuantParams.from_ranges(*ranges, **self.scalars, bits=self.bits, features=features)

    @cached_property
    def _exact(self) -> list[Tensor]:
        return [
            inhibitor_attention(q, k, v, **self.scalars, key_padding_mask=valid, **self.options)
            for q, k, v, valid in self.batches
        ]

    def _error(self, qparams: QuantParams) -> Tensor:
        """Squared error of the attention outputs of valid queries, (H,)."""
        total = torch.zeros(qparams.sign.shape[0])
        for (q, k, v, valid), target in zip(self.batches, self._exact, strict=True):
            ours = integer_attention(q, k, v, qparams, key_padding_mask=valid, **self.options)
            total += ((ours - target).square() * valid[:, None, :, None]).sum((0, 2, 3))
        return total
