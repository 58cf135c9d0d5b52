"""From the integers of one layer to the quantized inputs of the next, without a float between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .qparams import MAX_SUM, QuantParams, table_of_lengths

SHIFTS = (0, 46)
OUTPUT_BITS = (3, 4, 5, 6, 8)
# μ must fit 31 bits for any number of keys up to this one; beyond, a negative ρ may saturate it.
_MANY_KEYS = 2**16


def requantize(x: Tensor, multiplier: Tensor, shift: Tensor, zero_point: int, qmax: int) -> Tensor:
    """clip(⌊(x·μ + 2^(e−1)) / 2^e⌋ + zero point, 0, qmax), rounded half up; at e = 0 there is no half.

    Args:
        x: integers below 2³¹ in magnitude, such as attention's sums or a linear layer's accumulators.
        multiplier, shift: μ, below 2³¹ in magnitude, and e in [0, 46]; they broadcast with x.
        zero_point, qmax: of the result.

    Returns:
        uint8, of x's shape.
    """
    shift = shift.to(torch.int64)
    half = torch.where(shift > 0, 1 << (shift - 1).clamp_min(0), 0)
    scaled = (x.to(torch.int64) * multiplier.to(torch.int64) + half) >> shift
    return (scaled + zero_point).clamp(0, qmax).to(torch.uint8)


def fixed_point(factor: Tensor) -> tuple[Tensor, Tensor]:
    """(μ, e) int32 with factor ≈ μ / 2^e, and |μ| of 30 to 31 bits unless e would leave [0, 46]."""
    factor = factor.double()
    shift = exponents(factor.abs())
    return _multiplier(factor, shift), shift


def exponents(largest: Tensor) -> Tensor:
    """e, int32, with which multiples of 2^−e up to `largest` fit 31 bits."""
    return (30 - largest.double().clamp_min(2.0**-80).log2().ceil()).clamp(*SHIFTS).to(torch.int32)


def _multiplier(factor: Tensor, shift: Tensor) -> Tensor:
    return (factor * 2.0 ** shift.double()).round().clamp(-MAX_SUM, MAX_SUM).to(torch.int32)


@dataclass(frozen=True)
class Requantize:
    """What `integer_attention` writes instead of floats: Y = clip(⌊(A·μ(n) + 2^(e−1)) / 2^e⌋ + zero point, 0, qmax).

    μ(n) / 2^e is f(n) over the step of the output, of each head.

    qparams: of the attention. step: (H,) float32, of one unit of the output: the features of a head are inputs
    of the next layer with one step. zero_point: what 0 becomes. bits: of the output, 3 to 6 or 8.

    Raises ValueError for other numbers, shapes or dtypes.
    """

    qparams: QuantParams
    step: Tensor
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        heads = tuple(self.qparams.scale.shape)
        if self.bits not in OUTPUT_BITS:
            raise ValueError(f"the output's bits must be one of {list(OUTPUT_BITS)}, got {self.bits!r}")
        if type(self.zero_point) is not int or not 0 <= self.zero_point <= self.qmax:
            raise ValueError(f"zero_point must be a whole number in [0, {self.qmax}], got {self.zero_point!r}")
        if tuple(self.step.shape) != heads or self.step.dtype != torch.float32:
            raise ValueError(f"step must be {heads} torch.float32, got {tuple(self.step.shape)} {self.step.dtype}")
        if not bool((self.step.isfinite() & (self.step > 0)).all()):
            raise ValueError("step must be positive and finite")

    @property
    def qmax(self) -> int:
        """The largest output."""
        return int(2**self.bits - 1)

    @property
    def shift(self) -> Tensor:
        """e, (H,) int32: the same for any number of keys."""
        ends = torch.tensor([1.0, _MANY_KEYS], dtype=torch.float64, device=self.step.device)
        qparams = self.qparams
        length = (qparams.length_reference / ends) ** qparams.length_exponent.double()[:, None]
        return exponents((self._scale()[:, None] * length).abs().amax(1))

    def multipliers(self, keys: int) -> Tensor:
        """μ(n) for n = 0 … keys visible keys: (H, keys + 1) int32, a view."""
        qparams = self.qparams
        return table_of_lengths(self, keys, self._multipliers_up_to, self.step, qparams.scale, qparams.length_exponent)

    def _multipliers_up_to(self, keys: int) -> Tensor:
        factor = self.qparams.factors(keys).double() / self.step.double()[:, None]
        return _multiplier(factor, self.shift[:, None])

    def _scale(self) -> Tensor:
        return self.qparams.scale.double() / self.step.double()
