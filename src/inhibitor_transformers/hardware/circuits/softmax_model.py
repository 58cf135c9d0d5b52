"""Streaming softmax attention in integers: what the dot-product head computes, bit by bit.

It is built like ITA (arXiv 2307.03493) and Softermax (arXiv 2103.09301): probabilities are powers of 2, relative to a
running maximum that is an integer, so that renormalizing is a shift, and each output is normalized once, at the end.

q̂, k̂, v̂: signed, b bits, symmetric; their steps make q̂·k̂·2^−s an exponent of 2, so scores are rescaled by a shift
alone (a factor would be one more multiplier a key). Keys come in chunks of C, as many as the circuit has lanes, one
after the other; keys that the query does not see are left out. All shifts to the right round down.

    t_j  = clip(q̂·k̂_j · 2^F >> s)                                   exponent with F bits behind the point, E before it
    M_j  = max(M_{j−1}, t_j >> F)                                    running maximum, an integer
    p_j  = (2 T[t_j mod 2^F] >> (M_j − (t_j >> F))) + 1 >> 1         b bits, rounded half up
    p'_j = p_j >> (M − M_j)                                          M: of the chunk's last key
    ℓ    ← (ℓ >> Δ) + Σ p'_j;   A_k ← (A_k >> Δ) + Σ p'_j v̂_jk       Δ: how far M moved in the chunk

with the table T[f] = rint(2^(b−1+f/2^F)): the greatest p of a row has its top bit set. Only a chunk's probabilities
are stored. Two passes, the second with the row's maximum known, would save the shifts and round p once, for 2 to 14 %
less error of a trained model's attention outputs; they cost a memory for all scores of the row, and a cycle more a key.

Behind the last key, with n = the number of bits of ℓ (≥ b, as ℓ ≥ 2^(b−1)):

    r    = ⌊(2^(n+b+1) − 1) / ℓ⌋                                  one division a row, b + 2 bits
    Y_k  = clip((A_k >> (n − b))·r + 2^(e−1) >> e)                one product an output, e = 2b + 1 − g, g ≤ 3

Y: signed, b bits, with the step of v̂ times 2^−g; averages have a smaller range than what they average.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .head_size import Flags, Integers

EXPONENT_BITS = 8  # E: powers from 2^−128 to 2^127, the range of float32
MAX_GAIN = 3
LOWEST = -1 << (EXPONENT_BITS - 1)
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
    q: Integers, k: Integers, v: Integers, valid: Flags, shift: Integers, form: SoftmaxFormat
) -> tuple[Integers, Integers]:
    """A (…, Nq, Dv) and ℓ (…, Nq) of q (…, Nq, D), k (…, Nk, D), v (…, Nk, Dv), valid (…, Nq, Nk) and s (…)."""
    last = deque(attend_chunks(q, k, v, valid, shift, form), maxlen=1).pop()
    return last.outputs, last.total


class Chunk(NamedTuple):
    """What is known behind a chunk: M_j and p' (…, Nq, C), and A and ℓ up to it."""

    running: Integers
    probabilities: Integers
    outputs: Integers
    total: Integers


def attend_chunks(
    q: Integers, k: Integers, v: Integers, valid: Flags, shift: Integers, form: SoftmaxFormat
) -> Iterator[Chunk]:
    """`attend`, chunk by chunk."""
    scores = rescale(exact_matmul(q, k.swapaxes(-1, -2)), shift[..., None, None], form)
    maximum = np.full(scores.shape[:-1], LOWEST, np.int64)
    total = np.zeros_like(maximum)
    outputs = np.zeros((*total.shape, v.shape[-1]), np.int64)
    for start in range(0, k.shape[-2], form.chunk):
        keys = slice(start, start + form.chunk)
        running = running_maximum(maximum, scores[..., keys], valid[..., keys], form)
        p = chunk_probabilities(scores[..., keys], valid[..., keys], running, form)
        delta = running[..., -1] - maximum
        maximum = running[..., -1]
        total = renormalize(total, delta) + p.sum(-1)
        outputs = renormalize(outputs, delta[..., None]) + exact_matmul(p, v[..., keys, :])
        yield Chunk(running, p, outputs, total)


def rescale(dot: Integers, shift: Integers, form: SoftmaxFormat) -> Integers:
    """t, saturated."""
    limit = 1 << (form.score_bits - 1)
    return np.clip((dot << form.fraction_bits) >> shift, -limit, limit - 1)


def running_maximum(maximum: Integers, scores: Integers, seen: Flags, form: SoftmaxFormat) -> Integers:
    """M_j (…, C) of a chunk's scores, from M (…) before it."""
    exponents = np.where(seen, scores >> form.fraction_bits, LOWEST)
    running: Integers = np.maximum(np.maximum.accumulate(exponents, -1), maximum[..., None])
    return running


def chunk_probabilities(scores: Integers, seen: Flags, running: Integers, form: SoftmaxFormat) -> Integers:
    """p' (…, C); 0 for keys that are not seen."""
    p = probabilities(scores, running, form)
    return np.where(seen, renormalize(p, running[..., -1:] - running), 0)


def probabilities(scores: Integers, maximum: Integers, form: SoftmaxFormat) -> Integers:
    """p of scores t and of M; as if t's exponent were M, where it is greater."""
    mantissa = form.table()[scores & ((1 << form.fraction_bits) - 1)]
    distance = np.clip(maximum - (scores >> form.fraction_bits), 0, form.bits + 1)
    rounded: Integers = ((2 * mantissa >> distance) + 1) >> 1
    return rounded


def renormalize(value: Integers, delta: Integers) -> Integers:
    """What was relative to the old maximum, relative to the new one."""
    return value >> np.minimum(delta, 63)


def normalize(outputs: Integers, total: Integers, gain: Integers, form: SoftmaxFormat) -> Integers:
    """Y (…, Nq, Dv) of A, ℓ (…, Nq) and g (…); 0 where a query sees no key."""
    inverse, excess = reciprocal(total, form)
    return normalized(outputs, inverse[..., None], excess[..., None], gain[..., None, None], form)


def reciprocal(total: Integers, form: SoftmaxFormat) -> tuple[Integers, Integers]:
    """r, b + 2 bits, and n − b; of ℓ = 0, all bits set and 0."""
    length = bit_length(np.maximum(total, 1 << (form.bits - 1)))
    inverse = ((np.int64(1) << (length + form.bits + 1)) - 1) // np.maximum(total, 1)
    return np.minimum(inverse, (1 << (form.bits + 2)) - 1), length - form.bits


def normalized(outputs: Integers, inverse: Integers, excess: Integers, gain: Integers, form: SoftmaxFormat) -> Integers:
    """Y of A, r, n − b and g, which is at most MAX_GAIN."""
    product = (outputs >> excess) * inverse
    return np.clip(((product >> (2 * form.bits - gain)) + 1) >> 1, -form.top, form.top)


def bit_length(values: Integers) -> Integers:
    """Of integers in 1 … 2^52."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def exact_matmul(a: Integers, b: Integers) -> Integers:
    """a @ b by the fast product of floats, which is exact: sums of magnitudes stay under 2^53."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
