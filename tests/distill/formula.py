"""Inhibitor attention of the students in these tests, straight from the formula in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, relu

from tests.distill.tiny import HEADS


def heads(x: Tensor) -> Tensor:
    """(B, N, width) as (B, heads, N, size) in float64."""
    return x.double().unflatten(-1, (HEADS, -1)).transpose(1, 2)


def one_head(q: Tensor, k: Tensor, v: Tensor, gamma: float, delta: float, eta: float, rho: float, n0: float) -> Tensor:
    """Signed and centered, all keys valid; q, k, v and the result are (B, N, size)."""
    s = gamma / q.shape[-1] ** 0.5 * (q[:, :, None] - k[:, None]).abs().sum(-1)
    z = relu(s - s.mean(-1, keepdim=True) + delta)[..., None]
    shrunk = v[:, None].sign() * relu(v[:, None].abs() - z)
    return eta * (n0 / k.shape[1]) ** rho * shrunk.sum(2)


def attention_output(attention: Any, hidden: Tensor) -> Tensor:
    """What a student's attention module hands to its output projection for unpadded `hidden` (B, N, width)."""
    q, k, v = (heads(linear(hidden)) for linear in (attention.q_lin, attention.k_lin, attention.v_lin))
    scalars = attention.inhibitor
    parts = []
    for h in range(HEADS):
        names = ("gamma", "delta", "eta", "length_exponent")
        values = [getattr(scalars, name)[h].double() for name in names]
        parts.append(one_head(q[:, h], k[:, h], v[:, h], *values, scalars.length_reference))
    return torch.cat(parts, dim=-1)
