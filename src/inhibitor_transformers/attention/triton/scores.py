"""Device functions from distances to inhibition: scalars of a head, bias, what is subtracted, how many keys pass.

`of_head`: γ/√D, δ, λ and |u| (`head_scalars`). `of_query`: the mean distance and the mean bias, or with CENTER "min"
any number and the least score, in a shape that broadcasts against pairs. `bias`: the tensor (or None) and its strides.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .. import call
from .tiles import int64

LEAST_PASSED = tl.constexpr(call.LEAST_PASSED)
_ALL = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def head_scalars(gamma, delta, key_norm, unit, head, DIM: tl.constexpr):
    """(γ/√D, δ, λ, |u|) of one head; None where the call has no λ or u."""
    if key_norm is not None:
        key_norm = tl.load(key_norm + head)
    if unit is not None:
        unit = tl.abs(tl.load(unit + head))
    return tl.load(gamma + head) / tl.sqrt(DIM * 1.0), tl.load(delta + head), key_norm, unit


@triton.jit
def score_shift(delta, query, key, head, bias, bias_mean, valid):
    """What is added to centered scores: δ, with a bias δ + β − mean β, for numbers as in `valid_pairs`. The bias of an
    invalid pair is not read."""
    score_bias, strides = bias
    shift = delta
    if score_bias is not None:
        at = score_bias + head * strides[0] + int64(query) * strides[1] + int64(key) * strides[2]
        shift = delta + (tl.load(at, mask=valid, other=0.0) - bias_mean)
    return shift


@triton.jit
def scores(distance, query, key, head, of_head, bias, valid):
    """S, rounded once wherever it is computed: the least of a row is the least in every kernel."""
    scale, _, _, _ = of_head
    return tl.fma(distance, scale, score_shift(0.0, query, key, head, bias, 0.0, valid))


@triton.jit
def inhibition(distance, query, key, head, of_query, of_head, bias, valid, CENTER: tl.constexpr):
    """(Z, and the pairs whose mean score was subtracted: with CENTER "min" the least); NaN stays NaN."""
    mean, offset = of_query
    scale, delta, _, _ = of_head
    if CENTER == "min":
        score = scores(distance, query, key, head, of_head, bias, valid)
        averaged = valid & (score == offset)
        x = score - offset + delta
    else:
        averaged = valid
        shifts = score_shift(delta, query, key, head, bias, offset, valid)
        x = (distance - mean) * scale + shifts
    return tl.maximum(x, 0.0, propagate_nan=_ALL), averaged


@triton.jit
def min_of_rows(tile):
    """The least over the columns of a tile, (R,); skips NaN."""
    return tl.min(tl.min(tile, axis=0), axis=1)


@triton.jit
def passed_shares(z, unit):
    """relu(1 − Z/|u|): what each key counts for in how many pass."""
    inverse = tl.minimum(1.0 / unit, 3.4028235e38)  # of a denormal unit, beside which z = 0 must stay 0
    shares = tl.where(z < unit, tl.maximum(1.0 - z * inverse, 0.0), 0.0)
    return tl.where(unit > 0.0, shares, float("nan"))


@triton.jit
def mark(b, averaged, CENTER: tl.constexpr):
    """b, whose last bit says with CENTER "min" whether the pair is `averaged`: so scratch memory holds both."""
    if CENTER == "min":
        bits = (b.to(tl.int32, bitcast=True) & -2) | averaged.to(tl.int32)
        b = bits.to(tl.float32, bitcast=True)
    return b


@triton.jit
def is_marked(b):
    """What `mark` wrote."""
    return (b.to(tl.int32, bitcast=True) & 1) != 0


@triton.jit
def less_mean(b, b_mean, CENTER: tl.constexpr):
    """Marked b, minus the gradient of Z, as that of S: less the mean where it falls to the pair."""
    return b - tl.where(is_marked(b), b_mean, 0.0) if CENTER == "min" else b - b_mean
