"""Streaming softmax attention in integers: what the dot-product head computes, bit by bit.

It is built like ITA (arXiv 2307.03493) and Softermax (arXiv 2103.09301): probabilities are powers of 2, relative to a
running maximum that is an integer, so that renormalizing is a shift, and each output is normalized once, at the end.

q̂, k̂, v̂: signed, b bits, symmetric; their steps make q̂·k̂·2^−s an exponent of 2, so scores are rescaled by a shift
alone (a factor would be one more multiplier a key). Keys come in chunks of C, as many as the circuit has lanes; J: the
keys of the chunk that query i sees. All shifts to the right round down.

    t_ij = clip(q̂_i·k̂_j · 2^F >> s)                            exponent with F bits behind the point, E before it
    M    ← max(M, max_J t_ij >> F),  Δ = the new M − the old one  running maximum, an integer
    p_ij = (2 T[t_ij mod 2^F] >> (M − (t_ij >> F))) + 1 >> 1      b bits, rounded half up; 0 outside J
    ℓ    ← (ℓ >> Δ) + Σ_J p_ij;   A_ik ← (A_ik >> Δ) + Σ_J p_ij v̂_jk

with the table T[f] = rint(2^(b−1+f/2^F)): the greatest p of a row has its top bit set. A chunk is renormalized when it
is added, so neither scores nor probabilities of a row are stored: only those of a chunk. (Two passes over the row
would save the shift of A, one of 32 products' width a cycle, and cost a memory for all scores.)

Behind the last key, with n = the number of bits of ℓ (≥ b, as ℓ ≥ 2^(b−1)):

    r    = ⌊(2^(n+b+1) − 1) / ℓ⌋                                 one division a row, b + 2 bits
    Y_ik = clip((A_ik >> (n − b))·r + 2^(e−1) >> e)               one product an output, e = 2b + 1 − g

Y: signed, b bits, with the step of v̂ times 2^−g; averages have a smaller range than what they average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

EXPONENT_BITS = 8  # E: exponents of 2 from −128 to 127 cover every score that float16 attention can hold apart
FRACTION_BITS = {4: 3, 8: 5, 16: 8}


@dataclass(frozen=True)
class SoftmaxFormat:
    """Widths of a head. bits: 4, 8 or 16, of q̂, k̂, v̂ and p; chunk: how many keys are added at once."""

    bits: int
    chunk: int

    def __post_init__(self) -> None:
        if self.bits not in FRACTION_BITS:
            raise ValueError(f"bits is {self.bits}; the softmax head is built for {sorted(FRACTION_BITS)}")

    @property
    def fraction_bits(self) -> int:
        """F"""
        return FRACTION_BITS[self.bits]

    @property
    def score_bits(self) -> int:
        return EXPONENT_BITS + self.fraction_bits

    @property
    def top(self) -> int:
        """The greatest q̂, k̂, v̂ and Y."""
        return (1 << (self.bits - 1)) - 1

    def table(self) -> Integers:
        """T, 2^F entries of b bits, the top one set."""
        fractions = np.arange(1 << self.fraction_bits) / (1 << self.fraction_bits)
        return np.rint(np.exp2(self.bits - 1 + fractions)).astype(np.int64)


def attend(
    q: Integers, k: Integers, v: Integers, valid: Booleans, shift: Integers, form: SoftmaxFormat
) -> tuple[Integers, Integers]:
    """A (…, Nq, Dv) and ℓ (…, Nq) of q (…, Nq, D), k (…, Nk, D), v (…, Nk, Dv), valid (…, Nq, Nk) and s (…)."""
    scores = rescale(exact_matmul(q, k.swapaxes(-1, -2)), shift[..., None, None], form)
    maximum = np.full(scores.shape[:-1], -1 << (EXPONENT_BITS - 1), np.int64)
    total = np.zeros_like(maximum)
    outputs = np.zeros((*total.shape, v.shape[-1]), np.int64)
    for start in range(0, k.shape[-2], form.chunk):
        keys = slice(start, start + form.chunk)
        seen = valid[..., keys]
        previous = maximum
        maximum = running_maximum(previous, scores[..., keys], seen, form)
        delta = maximum - previous
        p = np.where(seen, probabilities(scores[..., keys], maximum[..., None], form), 0)
        total = renormalize(total, delta) + p.sum(-1)
        outputs = renormalize(outputs, delta[..., None]) + exact_matmul(p, v[..., keys, :])
    return outputs, total


def rescale(dot: Integers, shift: Integers, form: SoftmaxFormat) -> Integers:
    """t, saturated."""
    limit = 1 << (form.score_bits - 1)
    return np.clip((dot << form.fraction_bits) >> shift, -limit, limit - 1)


def running_maximum(maximum: Integers, scores: Integers, seen: Booleans, form: SoftmaxFormat) -> Integers:
    """M behind a chunk (…, C) of scores."""
    lowest = np.int64(-1 << (EXPONENT_BITS - 1))
    highest: Integers = np.where(seen, scores >> form.fraction_bits, lowest).max(-1)
    return np.maximum(maximum, highest)


def probabilities(scores: Integers, maximum: Integers, form: SoftmaxFormat) -> Integers:
    """p of scores t under the maximum M; of scores above it, which only unseen keys have, some number."""
    mantissa = form.table()[scores & ((1 << form.fraction_bits) - 1)]
    distance = np.clip(maximum - (scores >> form.fraction_bits), 0, form.bits + 1)
    rounded: Integers = ((2 * mantissa >> distance) + 1) >> 1
    return rounded


def renormalize(value: Integers, delta: Integers) -> Integers:
    """What was relative to the old maximum, relative to the new one."""
    return value >> np.minimum(delta, 63)


def normalize(outputs: Integers, total: Integers, gain: Integers, form: SoftmaxFormat) -> Integers:
    """Y (…, Nq, Dv) of A, ℓ (…, Nq) and g (…); 0 where a query sees no key."""
    b = form.bits
    length = bit_length(np.maximum(total, 1 << (b - 1)))
    inverse = reciprocal(total, form)
    shift = 2 * b + 1 - gain[..., None, None]
    product = (outputs >> (length - b)[..., None]) * inverse[..., None]
    return np.clip((product + (np.int64(1) << (shift - 1))) >> shift, -form.top, form.top)


def reciprocal(total: Integers, form: SoftmaxFormat) -> Integers:
    """r, b + 2 bits; 0 where ℓ is."""
    safe = np.maximum(total, 1 << (form.bits - 1))
    numerator = (np.int64(1) << (bit_length(safe) + form.bits + 1)) - 1
    return np.where(total > 0, numerator // safe, 0)


def bit_length(values: Integers) -> Integers:
    """Of integers in 1 … 2^52."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def exact_matmul(a: Integers, b: Integers) -> Integers:
    """a @ b by the fast product of floats, which is exact: sums of magnitudes stay under 2^53."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
