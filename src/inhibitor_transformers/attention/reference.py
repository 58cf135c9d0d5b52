"""The reference of inhibitor attention in plain torch: read it beside the formula.

    S_ij = γ/√D (Σ_d |q_id − k_jd| − λ Σ_d |k_jd|) + β_ij
    Z_ij = relu(S_ij − mean_{j∈J_i} S_ij + δ)
    H_ik = η (n₀/n_i)^ρ Σ_{j∈J_i} shrink(v_jk, Z_ij) / P_i

with shrink(v, z) = sign(v)·max(|v| − z, 0) (signed) or max(v − z, 0) (unsigned), and J_i the n_i keys
that are valid for query i (arXiv 2503.15983, eqs. 3–6). This project's own: ρ, the length exponent; β, a bias that
does not depend on the content; λ, the key norm; and P_i = max(Σ_{j∈J_i} relu(1 − Z_ij/|u|), 0.1), how many keys pass, 1
where there is no unit u.
Exact in float64, differentiable twice, any float dtype; half precision is computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .call import LEAST_PASSED, AttentionCall
from .transforms import is_recorded, is_transformed, size

# Elements of the largest temporary, (chunk of query rows) × Nk × D: nothing of size N×N×D is ever
# allocated, and 4 MB (in float32) is where 2 cores were fastest: cache misses against calls.
CHUNK_ELEMENTS = 1 << 20


def scores(
    q: Tensor,
    k: Tensor,
    valid: Tensor | None,
    bias: Tensor | None,
    gamma: Tensor,
    delta: Tensor,
    key_norm: Tensor | None,
    center: str,
) -> Tensor:
    """Z of (..., Nq, D) queries and (..., Nk, D) keys: (..., Nq, Nk), +inf outside J_i."""
    distance = (q.unsqueeze(-1) - k.transpose(-1, -2).unsqueeze(-3)).abs().sum(-2)
    if valid is not None:  # an invalid key may hold NaN; filled before γ, whose gradient would meet 0·NaN
        distance = distance.masked_fill(~valid, 0.0)
    if key_norm is not None:
        norm = k.abs().sum(-1).unsqueeze(-2)
        distance = distance - key_norm * (norm if valid is None else norm.masked_fill(~valid, 0.0))
    features = size(q, -1)
    s = distance * (gamma / (features.sqrt() if isinstance(features, Tensor) else math.sqrt(features)))
    if bias is not None:
        s = s + (bias if valid is None else bias.masked_fill(~valid, 0.0))
    if center == "mean":
        s = s - s.sum(-1, keepdim=True) / key_count(valid, k)
    elif center == "min" and size(k, -2) > 0:
        s = s - (s if valid is None else s.masked_fill(~valid, math.inf)).amin(-1, keepdim=True)
    z = torch.relu(s + delta)
    return z if valid is None else z.masked_fill(~valid, math.inf)


def inhibit(z: Tensor, v: Tensor, valid: Tensor | None, signed: bool) -> Tensor:
    """Σ_j shrink(v_jk, Z_ij) of (..., Nq, Nk) scores and (..., Nk, Dv) values: (..., Nq, Dv)."""
    z = z.unsqueeze(-1)  # (..., Nq, Nk, 1)
    v = v.unsqueeze(-3)  # (..., 1, Nk, Dv)
    kept = torch.sign(v) * torch.relu(v.abs() - z) if signed else torch.relu(v - z)
    if valid is not None:  # Z = inf already gives 0, but for a value that is NaN or infinite itself
        kept = kept.masked_fill(~valid.unsqueeze(-1), 0.0)
    return kept.sum(-2)


def passed(z: Tensor, unit: Tensor, valid: Tensor | None) -> Tensor:
    """P_i, (..., Nq, 1), of scores (..., Nq, Nk)."""
    size = unit.abs()
    beyond = (z >= size) & (size != 0.0)  # and a NaN is not beyond
    beyond = beyond if valid is None else beyond | ~valid
    share = 1.0 - z.masked_fill(beyond, 0.0) / size  # filled before u, whose gradient would meet 0·inf
    return share.masked_fill(beyond, 0.0).sum(-1, keepdim=True).clamp(min=LEAST_PASSED)


def key_count(valid: Tensor | None, k: Tensor) -> Tensor:
    """n_i, (..., Nq, 1) or a scalar; 1 for a query without keys, whose sums are zero anyway."""
    if valid is None:
        keys = size(k, -2)
        return keys.clamp(min=1) if isinstance(keys, Tensor) else k.new_full((), max(keys, 1))
    return valid.sum(-1, keepdim=True).clamp(min=1).to(k.dtype)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None,
    bias: Tensor | None,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    key_norm: Tensor | None = None,
    unit: Tensor | None = None,
    *,
    length_reference: float,
    signed: bool,
    center: str,
) -> Tensor:
    """H, (..., Nq, Dv); bias and scalars broadcast against (..., Nq, Nk)."""
    z = scores(q, k, valid, bias, gamma, delta, key_norm, center)
    length = (length_reference / key_count(valid, k)) ** length_exponent
    kept = eta * length * inhibit(z, v, valid, signed)
    return kept if unit is None else kept / passed(z, unit, valid)


def run(call: AttentionCall) -> Tensor:
    """H, (B, H, Nq, Dv), in the dtype of the query."""
    options: dict[str, Any] = {"length_reference": call.length_reference, "signed": call.signed, "center": call.center}
    return _in_chunks(call, partial(attend, **options))


def run_scores(call: AttentionCall) -> Tensor:
    """The scores Z, (B, H, Nq, Nk), in the dtype of the query; +inf where a key is not valid."""

    def score(q: Tensor, k: Tensor, _v: Tensor, valid: Tensor | None, bias: Tensor | None, *scalars: Any) -> Tensor:
        gamma, _eta, delta, _length_exponent, key_norm, _unit = scalars
        return scores(q, k, valid, bias, gamma, delta, key_norm, call.center)

    return _in_chunks(call, score)


def _in_chunks(call: AttentionCall, function: Callable[..., Tensor]) -> Tensor:
    """`function` over chunks of sequences, heads and query rows; in training each chunk is recomputed."""
    dtype = call.compute_dtype
    q = call.query.to(dtype)
    k, v = (t.to(dtype).repeat_interleave(call.groups, dim=1) for t in (call.key, call.value))
    valid = call.valid_pairs()
    bias = None if call.score_bias is None else call.score_bias[None]
    # (B, H) for a gradient of each sequence (custom_op.py)
    scalars = [None if s is None else (s if s.dim() == 2 else s[None])[..., None, None] for s in call.tensors().scalars]
    if is_recorded():  # chunk sizes would fix lengths; and a compiler fuses the broadcast with its sum
        return function(q, k, v, valid, bias, *scalars).to(call.query.dtype)
    batch_size, head_size, row_size = _chunk_sizes(q, k, v)
    if (batch_size, head_size, row_size) == q.shape[:3]:
        return function(q, k, v, valid, bias, *scalars).to(call.query.dtype)
    differentiated = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in call.tensors())
    # What checkpoint does, torch.func and forward mode cannot follow.
    if differentiated and not is_transformed(*call.tensors()):
        function = partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False)
    out = []
    for b in _split([q, k, v, valid, bias, *scalars], batch_size, 0):
        of_batch = []
        for q_, k_, v_, valid_, bias_, *scalars_ in _split(b, head_size, 1):
            parts = _split([q_, valid_, bias_], row_size, 2)
            of_batch.append(torch.cat([function(qr, k_, v_, vr, br, *scalars_) for qr, vr, br in parts], dim=2))
        out.append(torch.cat(of_batch, dim=1))
    return torch.cat(out, dim=0).to(call.query.dtype)


def _chunk_sizes(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, int, int]:
    """Sequences, heads and query rows of one chunk; a dimension is cut only when those inside it fit whole."""
    batch, heads, rows = q.shape[:3]
    per_row = max(k.shape[2] * max(k.shape[3], v.shape[3]), 1)

    def fitting(elements_of_one: int, available: int) -> int:
        return min(max(CHUNK_ELEMENTS // elements_of_one, 1), max(available, 1))

    row_size = fitting(per_row, rows)
    head_size = fitting(per_row * row_size, heads)
    return fitting(per_row * row_size * head_size, batch), head_size, row_size


def _split(tensors: Sequence[Tensor | None], size: int, dim: int) -> Iterator[tuple[Tensor | None, ...]]:
    """Cut all tensors alike along `dim`; None and dimensions of one (broadcast) go to every chunk."""
    first = tensors[0]
    assert first is not None
    count = max(-(-first.shape[dim] // size), 1)
    # split, not slicing: its backward joins the chunks' gradients once, a slice's pads each to full size.
    columns = [[t] * count if t is None or t.shape[dim] == 1 else list(t.split(size, dim)) for t in tensors]
    return zip(*columns, strict=True)
