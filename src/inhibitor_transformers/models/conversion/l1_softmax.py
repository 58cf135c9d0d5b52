"""Softmax of Manhattan distances: a baseline between softmax and inhibitor attention.

    H_i = Σ_j softmax_j(−γ/√D (Σ_d |q_id − k_jd| − λ Σ_d |k_jd|) − b_ij) v_j

EcoTransformer's form (arXiv 2507.20096; λ as of `inhibitor_attention`): distances in place of products, the softmax
and the product with values kept. A model converted and aligned so shows what the softmax itself is worth. It is plain
torch, and holds all scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...attention.call import causal_mask, compute_dtype

# Those of `inhibitor_attention` that this form has too.
OPTIONS = ("gamma", "key_norm", "score_bias", "key_padding_mask", "attn_mask", "is_causal")


def l1_softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    gamma: Tensor,
    key_norm: Tensor | None = None,
    score_bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Outputs (B, H, Nq, Dv) in the dtype of the query, and scores S (B, H, Nq, Nk), +inf where a key is not valid.

    Arguments as of `inhibitor_attention`. A query without keys gives 0.
    """
    groups = query.shape[1] // key.shape[1]
    dtype = compute_dtype(query.dtype)
    q, k, v = query.to(dtype), *(t.to(dtype).repeat_interleave(groups, 1) for t in (key, value))
    distances = torch.cdist(q, k, p=1.0)
    if key_norm is not None:
        distances = distances - key_norm[:, None, None] * k.abs().sum(-1)[..., None, :]
    scores = distances * (gamma[:, None, None] / query.shape[-1] ** 0.5)
    if score_bias is not None:
        scores = scores + score_bias
    valid = torch.ones((), dtype=torch.bool, device=query.device)
    if key_padding_mask is not None:
        valid = valid & key_padding_mask[:, None, None]
        v = v.masked_fill(~key_padding_mask[:, None, :, None], 0.0)
    if attn_mask is not None:
        valid = valid & attn_mask
    if is_causal:
        valid = valid & causal_mask(query.shape[2], key.shape[2], query.device)
    scores = scores.masked_fill(~valid, torch.inf)
    weights = torch.softmax(-scores, -1).masked_fill(~valid, 0.0)  # NaN in a row without keys
    return (weights @ v).to(query.dtype), scores
