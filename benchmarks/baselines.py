"""The baselines that the operation is timed against: torch's softmax attention, and two plain formulations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None, dict[str, Tensor]], Tensor]


def softmax(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scalars: dict[str, Tensor]) -> Tensor:
    """torch's fused attention."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if valid is None else valid[:, None, None, :])


def fused(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scalars: dict[str, Tensor]) -> Tensor:
    """Engine `cpu`."""
    return inhibitor_attention(q, k, v, **scalars, key_padding_mask=valid, engine="cpu")


def fused_gpu(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scalars: dict[str, Tensor]) -> Tensor:
    """Engine `triton`."""
    return inhibitor_attention(q, k, v, **scalars, key_padding_mask=valid, engine="triton")


def reference(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scalars: dict[str, Tensor]) -> Tensor:
    """Engine `reference`: what all are compared with."""
    return inhibitor_attention(q, k, v, **scalars, key_padding_mask=valid, engine="reference")


def _scores(distance: Tensor, dim: int, scalars: dict[str, Tensor]) -> Tensor:
    gamma, delta = (scalars[name].view(1, -1, 1, 1) for name in ("gamma", "delta"))
    s = distance * (gamma / math.sqrt(dim))
    return torch.relu(s - s.mean(-1, keepdim=True) + delta)


def _scale(n: int, scalars: dict[str, Tensor]) -> Tensor:
    return (scalars["eta"] * (64 / n) ** scalars["length_exponent"]).view(1, -1, 1, 1)


def cdist(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scalars: dict[str, Tensor]) -> Tensor:
    """The published code's way: `torch.cdist` twice. Unmasked only.

    Sum_j relu(|v| - z) = (sum_j (|v| - z) + sum_j ||v| - z|) / 2, a distance again; the two signs of v apart.
    """
    z = _scores(torch.cdist(q, k, p=1), q.shape[-1], scalars)

    def kept(part: Tensor) -> Tensor:  # sum_j relu(part_jk - z_ij) for part >= 0
        linear = part.sum(-2, keepdim=True) - z.sum(-1, keepdim=True)
        return (linear + torch.cdist(z, part.transpose(-1, -2).contiguous(), p=1)) / 2

    return _scale(k.shape[2], scalars) * (kept(torch.relu(v)) - kept(torch.relu(-v)))


def naive(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scalars: dict[str, Tensor]) -> Tensor:
    """The formula with broadcasts: (B, H, Nq, Nk, D) in memory. Unmasked only."""
    z = _scores((q[:, :, :, None] - k[:, :, None]).abs().sum(-1), q.shape[-1], scalars)
    size = torch.relu(v.abs()[:, :, None] - z[..., None])
    return _scale(k.shape[2], scalars) * (torch.sign(v)[:, :, None] * size).sum(-2)
