"""What an inhibitor head computes, in integers: the specification's numbers as the circuit takes them, and its model.

The specification (attention/integer/reference.py) has a sign σ of −1, 0 or 1, an offset δ̂, a shift s and, centered, a
mean M:

    z = min(⌊max(σ(D − M) + δ̂, 0) / 2^s + ½⌋, 2^(b−1) − 1)

The circuit adds one number less, and has no σ of 0: with h = 2^(s−1), the half of the rounding (0 for s ≤ 0),

    σ = 1:   score = D − M + (δ̂ + h),        z = min(⌊max(score, 0) / 2^s⌋, …)
    σ = −1:  score = D − M − (δ̂ + h) − 1,    z = min(⌊max(−score − 1, 0) / 2^s⌋, …), and −score − 1 is its inverse

The half may go inside, as what lies below it ends at zero either way. D comes as Σk − 2 Σ min(q, k), less Σq: centered,
Σq cancels out in D − M; otherwise it is part of the `bias` that comes with a query.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .distance import distance_bits, sum_bits
from .head_size import Flags, HeadSize, Integers


@dataclass(frozen=True)
class InhibitorShape(HeadSize):
    """The size of an inhibitor head; v has its sign among its bits.

    centered: scores are taken less their mean. shifts: the range of s that the circuit's shifter serves; None: all that
    make a difference.
    """

    centered: bool = False
    shifts: tuple[int, int] | None = None

    @property
    def qmax(self) -> int:
        """Of z and |v|."""
        return (1 << (self.bits - 1)) - 1

    @property
    def span(self) -> int:
        """How far two scores can lie apart."""
        return self.features * ((1 << self.bits) - 1) * (2 if self.centered else 1)

    @cached_property
    def shift_range(self) -> tuple[int, int]:
        """Below, z is at its largest as soon as it is not 0; above, it takes two values next to each other at most."""
        return self.shifts or (1 - self.bits, self.span.bit_length())

    @property
    def distance_bits(self) -> int:
        return distance_bits(self.bits, self.features)

    @property
    def key_sum_bits(self) -> int:
        return sum_bits(self.bits, self.features)

    @property
    def score_bits(self) -> int:
        """Scores beyond these could be moved to them without a change of z; see `Configuration.of`."""
        return ((self.qmax << max(self.shift_range[1], 0)) + self.span).bit_length() + 1

    @property
    def accumulator_bits(self) -> int:
        return (self.keys * self.qmax).bit_length() + 1


@dataclass(frozen=True)
class Configuration:
    """The numbers of one head that its circuit holds; `bias` is what scores have added besides Σq."""

    negative: bool
    bias: int
    shift: int

    @classmethod
    def of(cls, shape: InhibitorShape, sign: int, delta: int, shift: int) -> Configuration:
        """σ, δ̂ and s of the specification. Raises ValueError if s is outside the circuit's range and matters."""
        addend, shift = _fold(shape, sign, delta, shift)
        return cls(sign < 0, -addend - 1 if sign < 0 else addend, shift)

    def scores(self, shape: InhibitorShape, distance: Integers, visible: Flags) -> Integers:
        """z of distances, (…, n_k) each, by the circuit's numbers; where a key is not visible, the largest."""
        mean: Integers | int = 0
        if shape.centered:
            count = np.maximum(visible.sum(-1, keepdims=True), 1)
            mean = ((distance * visible).sum(-1, keepdims=True) + count // 2) // count
        score = distance - mean + self.bias
        y = np.maximum(~score if self.negative else score, 0)
        z: Integers = np.minimum(y << max(-self.shift, 0) >> max(self.shift, 0), shape.qmax)
        return np.where(visible, z, shape.qmax)


def _fold(shape: InhibitorShape, sign: int, delta: int, shift: int) -> tuple[int, int]:
    """What is added to σ(D − M), the half of the rounding included, and the shift, within the ranges of the circuit.

    Only terms σ(D − M) from `bottom` to `top` occur. Where all of them give one z, or two next to each other, other
    numbers do so as well.
    """
    low, high = shape.shift_range
    largest = shape.features * ((1 << shape.bits) - 1)
    bottom, top = (-largest, largest) if shape.centered else sorted((0, (sign or 1) * largest))
    first, last = (_z(shape, abs(sign) * term + delta, shift) for term in (bottom, top))
    half = 1 << (shift - 1) if shift > 0 else 0
    if last == 0:
        return -top, low
    if first == shape.qmax:
        return (shape.qmax << max(low, 0)) - bottom, low
    if sign and low <= shift <= high:
        return delta + half, shift
    if sign and shift < low == 1 - shape.bits:  # all but 0 is at its largest
        return delta, low
    if shape.span >> high == 0 and (first == last or shift > high):
        threshold = bottom if first == last else (last << shift) - half - delta  # the first term that gives `last`
        return (last << high) - threshold, high
    raise ValueError(f"a circuit for shifts from {low} to {high} does not serve sign {sign}, shift {shift}")


def _z(shape: InhibitorShape, score: int, shift: int) -> int:
    """The specification's z of σ(D − M) + δ̂."""
    half = 1 << (shift - 1) if shift > 0 else 0
    return min(((max(score, 0) << max(-shift, 0)) + half) >> max(shift, 0), shape.qmax)


def distances(q: Integers, k: Integers) -> Integers:
    """(…, n_q, F) and (…, n_k, F) → (…, n_q, n_k)."""
    distance: Integers = np.abs(q[..., :, None, :] - k[..., None, :, :]).sum(-1)
    return distance


def inhibited_sums(z: Integers, v: Integers) -> Integers:
    """(…, n_q, n_k) and (…, n_k, d) → A, (…, n_q, d)."""
    magnitudes = np.maximum(np.abs(v)[..., None, :, :] - z[..., None], 0)
    sums: Integers = (np.sign(v)[..., None, :, :] * magnitudes).sum(-2)
    return sums
