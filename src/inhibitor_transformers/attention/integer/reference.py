"""The reference of integer inhibitor attention: after quantization nothing but integers until the last product.

Quantized (quantize.py) to b bits, L = 2^b − 1 and Lᵥ = 2^(b−1) − 1; rint rounds ties to even, float32 throughout, and
NaN becomes the smallest value. q and k have one step a head, v one a query head; a feature f that was split off another
one reads the same number, x_f = x_source(f):

    q̂_if = rint(clip((q_if − o_f)·r, 0, L)),  k̂_jf alike;   v̂_jk = rint(clip(v_jk·rᵥ, −Lᵥ, Lᵥ))

Integers, over the n_i keys j ∈ J_i that are visible to query i:

    D_ij = Σ_f |q̂_if − k̂_jf|                                   distance
    M_i  = ⌊(2 Σ_j D_ij + n_i) / 2n_i⌋                          its mean, rounded half up; 0 if not centered
    U_ij = max(σ(D_ij − M_i) + δ̂, 0)                           score, in units of distance
    Ẑ_ij = min(⌊U_ij / 2^s + ½⌋, Lᵥ)                            the same in steps of v, rounded half up
    A_ik = Σ_j sign(v̂_jk)·max(|v̂_jk| − Ẑ_ij, 0)               signed; Σ_j max(v̂_jk − Ẑ_ij, 0) unsigned

D, Z and A have no product: s is a shift, σ a sign. At the very end, either in float32, H_ik = f(n_i)·A_ik with
f(n) = η·(step of v)·(n₀/n)^ρ rounded once, or requantized for the next layer (requantize.py).

Every other engine is bit-exact with this one. docs/explanation/integers.md proves that nothing overflows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..call import MaskedTensors
from ..transforms import is_recorded
from .qparams import BITS, QuantParams
from .quantize import quantize_features, quantize_values
from .requantize import Requantize, requantize

CHUNK_ELEMENTS = 1 << 22  # of the largest temporary, (chunk of query rows) × Nk × F, int64
SERVES = BITS


def scores(q: Tensor, k: Tensor, valid: Tensor | None, qparams: QuantParams, *, centered: bool) -> Tensor:
    """Ẑ of (B, H, Nq, F) and (B, H, Nk, F) quantized values: (B, H, Nq, Nk) int64; outside J_i, Lᵥ."""
    distance = (q.unsqueeze(3) - k.unsqueeze(2)).abs().sum(-1)
    sign, delta, shift = (t.to(torch.int64)[:, None, None] for t in (qparams.sign, qparams.delta, qparams.shift))
    mean = torch.zeros_like(distance[..., :1])
    if centered:
        visible = torch.ones_like(distance) if valid is None else valid.to(torch.int64).expand_as(distance)
        count = visible.sum(-1, keepdim=True).clamp_min(1)
        mean = (2 * (distance * visible).sum(-1, keepdim=True) + count).div(2 * count, rounding_mode="floor")
    score = (sign * (distance - mean) + delta).clamp_min(0)
    half = torch.where(shift > 0, 1 << (shift - 1).clamp_min(0), 0)
    z = (((score << (-shift).clamp_min(0)) + half) >> shift.clamp_min(0)).clamp_max(qparams.value_qmax)
    return z if valid is None else z.masked_fill(~valid, qparams.value_qmax)


def inhibit(z: Tensor, v: Tensor, *, signed: bool) -> Tensor:
    """A of (…, Nq, Nk) scores and (…, Nk, Dv) quantized values: (…, Nq, Dv) int64."""
    z, v = z.unsqueeze(-1), v.unsqueeze(-3)
    return (v.sign() * (v.abs() - z).clamp_min(0) if signed else (v - z).clamp_min(0)).sum(-2)


def integer_sums(call: MaskedTensors, qparams: QuantParams) -> Tensor:
    """A, (B, H, Nq, Dv) int32."""
    q = quantize_features(call.query, qparams)
    k = quantize_features(call.key, qparams).repeat_interleave(call.groups, 1)
    v = quantize_values(call.value, qparams)
    valid = call.valid_pairs()
    parts = []
    for rows in _blocks(q, k):
        z = _row_scores(call, qparams, q, k, valid, rows)
        parts.append(inhibit(z, v, signed=call.signed))
    return torch.cat(parts, 2).to(torch.int32)


def _blocks(q: Tensor, k: Tensor) -> list[slice]:
    """Query rows whose differences from all keys stay within CHUNK_ELEMENTS; all, where lengths may change later."""
    if is_recorded():
        return [slice(None)]
    size = max(CHUNK_ELEMENTS // max(q[:, :, :1].numel() * k.shape[2], 1), 1)
    return [slice(start, start + size) for start in range(0, max(q.shape[2], 1), size)]


def _row_scores(
    call: MaskedTensors, qparams: QuantParams, q: Tensor, k: Tensor, valid: Tensor | None, rows: slice
) -> Tensor:
    mask = valid if valid is None or valid.shape[2] == 1 else valid[:, :, rows]
    return scores(q[:, :, rows], k, mask, qparams, centered=call.center == "mean")


def float_scores(call: MaskedTensors, qparams: QuantParams) -> Tensor:
    """Ẑ times the step of v, (B, H, Nq, Nk) float32; +inf outside J_i."""
    q = quantize_features(call.query, qparams)
    k = quantize_features(call.key, qparams).repeat_interleave(call.groups, 1)
    valid = call.valid_pairs()
    z = torch.cat([_row_scores(call, qparams, q, k, valid, rows) for rows in _blocks(q, k)], 2)
    step = (1 / qparams.value_inverse_step)[:, None, None]
    return z.float() * step if valid is None else (z.float() * step).masked_fill(~valid, torch.inf)


def run(call: MaskedTensors, qparams: QuantParams) -> Tensor:
    """H, (B, H, Nq, Dv) float32."""
    sums = integer_sums(call, qparams)
    return sums.float() * _at_counts(qparams.factors(call.key.shape[2]), call, sums)


def run_requantized(call: MaskedTensors, qparams: QuantParams, output: Requantize) -> Tensor:
    """Y, (B, H, Nq, Dv) uint8."""
    sums = integer_sums(call, qparams)
    multiplier = _at_counts(output.multipliers(call.key.shape[2]), call, sums)
    return requantize(sums, multiplier, output.shift[:, None, None], output.zero_point, output.qmax)


def _at_counts(table: Tensor, call: MaskedTensors, sums: Tensor) -> Tensor:
    """The entries (B, H, Nq, 1) of a table (H, Nk + 1) for the number of keys that each query sees."""
    valid = call.valid_pairs()
    # From a tensor, not from its size: an exported graph may be run with other lengths.
    count = sums.new_ones(call.key.shape[2]).sum().view(1, 1, 1) if valid is None else valid.sum(-1)
    count = count.to(sums.device).expand(sums.shape[:3])
    return table.unsqueeze(0).unsqueeze(2).expand(*sums.shape[:3], -1).gather(-1, count.unsqueeze(-1))
