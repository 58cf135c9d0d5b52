"""Inhibitor attention as loops over numbers, written from the definition and sharing nothing with src."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

Scalar = float | Tensor


def brute_force(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    gamma: Scalar = 1.0,
    eta: Scalar = 1.0,
    delta: Scalar = 0.0,
    length_exponent: Scalar = 0.0,
    length_reference: float = 64,
    key_norm: Scalar | None = None,
    unit: Scalar | None = None,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    is_causal: bool = False,
    signed: bool = True,
    center: str = "mean",
) -> Tensor:
    """H, (B, H, Nq, Dv) in float64."""
    batch, heads, queries, _ = query.shape
    heads_per_kv = heads // key.shape[1]
    valid = valid_keys(query, key, key_padding_mask, attn_mask, is_causal)
    q, k, v = query.tolist(), key.tolist(), value.tolist()
    g, e, d, rho = (per_head(s, heads) for s in (gamma, eta, delta, length_exponent))
    norm, units = (per_head(0.0 if s is None else s, heads) for s in (key_norm, unit))
    bias = bias_of(score_bias, key.shape[2])
    out = torch.zeros(batch, heads, queries, value.shape[3], dtype=torch.float64)
    for b, h, i in product(range(batch), range(heads), range(queries)):
        kv, keys = h // heads_per_kv, valid(b, h, i)
        if not keys:
            continue
        z = row_scores(q[b][h][i], k[b][kv], keys, g[h], d[h], norm[h], center, bias(h, i))
        factor = e[h] * (length_reference / len(keys)) ** rho[h]
        if unit is not None:
            factor /= max(math.fsum(max(1 - z[j] / abs(units[h]), 0.0) for j in keys), 0.1)
        for c in range(value.shape[3]):
            out[b, h, i, c] = factor * math.fsum(shrink(v[b][kv][j][c], z[j], signed) for j in keys)
    return out


def brute_force_scores(
    query: Tensor,
    key: Tensor,
    *,
    gamma: Scalar = 1.0,
    delta: Scalar = 0.0,
    key_norm: Scalar | None = None,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    is_causal: bool = False,
    center: str = "mean",
) -> Tensor:
    """Z, (B, H, Nq, Nk) in float64, +inf where the key is not valid."""
    batch, heads, queries, _ = query.shape
    heads_per_kv = heads // key.shape[1]
    valid = valid_keys(query, key, key_padding_mask, attn_mask, is_causal)
    q, k = query.tolist(), key.tolist()
    g, d, norm = (per_head(s, heads) for s in (gamma, delta, 0.0 if key_norm is None else key_norm))
    bias = bias_of(score_bias, key.shape[2])
    out = torch.full((batch, heads, queries, key.shape[2]), math.inf, dtype=torch.float64)
    for b, h, i in product(range(batch), range(heads), range(queries)):
        keys = valid(b, h, i)
        z = row_scores(q[b][h][i], k[b][h // heads_per_kv], keys, g[h], d[h], norm[h], center, bias(h, i))
        for j in keys:
            out[b, h, i, j] = z[j]
    return out


def valid_keys(
    query: Tensor, key: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None, is_causal: bool
) -> Callable[[int, int, int], list[int]]:
    """J_i as a function of (batch row, head, query)."""
    queries, keys = query.shape[2], key.shape[2]
    padding = None if key_padding_mask is None else key_padding_mask.tolist()
    pairs = None if attn_mask is None else torch.broadcast_to(attn_mask, (*query.shape[:3], keys)).tolist()

    def of(b: int, h: int, i: int) -> list[int]:
        position = keys - queries + i  # the queries are the last of all positions
        return [
            j
            for j in range(keys)
            if (padding is None or padding[b][j])
            and (pairs is None or pairs[b][h][i][j])
            and (not is_causal or j <= position)
        ]

    return of


def row_scores(
    q: list[float],
    k: list[list[float]],
    keys: list[int],
    gamma: float,
    delta: float,
    key_norm: float,
    center: str,
    bias: list[float],
) -> dict[int, float]:
    """Z of one query, by key."""
    scale = gamma / math.sqrt(len(q))
    terms = {j: [abs(a - b) - key_norm * abs(b) for a, b in zip(q, k[j], strict=True)] for j in keys}
    s = {j: scale * math.fsum(terms[j]) + bias[j] for j in keys}
    centers = {"mean": lambda: math.fsum(s.values()) / len(keys), "min": lambda: min(s.values()), "none": lambda: 0.0}
    subtracted = centers[center]() if keys else 0.0
    return {j: max(s[j] - subtracted + delta, 0.0) for j in keys}


def bias_of(score_bias: Tensor | None, keys: int) -> Callable[[int, int], list[float]]:
    """Of one query, as a function of (head, query)."""
    if score_bias is None:
        return lambda h, i: [0.0] * keys
    rows = score_bias.tolist()
    return lambda h, i: rows[h if len(rows) > 1 else 0][i]


def shrink(v: float, z: float, signed: bool) -> float:
    if not signed:
        return max(v - z, 0.0)
    return math.copysign(max(abs(v) - z, 0.0), v)


def per_head(scalar: Scalar, heads: int) -> list[float]:
    return [float(s) for s in torch.as_tensor(scalar, dtype=torch.float64).expand(heads)]
