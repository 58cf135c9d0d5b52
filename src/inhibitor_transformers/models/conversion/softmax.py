"""Softmax attention as a model computes it: for modules that stay softmax, and to see what a module computes at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .masks import CallMasks

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]


def own_function(module: Any) -> AttentionFunction | None:
    """The `eager_attention_forward` of the file that a module's class is defined in."""
    for kind in type(module).__mro__:
        found: AttentionFunction | None = getattr(sys.modules.get(kind.__module__), "eager_attention_forward", None)
        if found is not None:
            return found
    return None


def softmax_forward(
    implementation: str,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of a module that was not converted, as its model computed it before.

    implementation: "sdpa" or "eager". attention_mask: of `explicit_mask`, or a model's own.
    """
    function = sdpa_attention_forward
    if implementation == "eager":
        own = own_function(module)
        if own is None:
            raise ValueError(f"{type(module).__name__} has no eager attention of its own")
        function, attention_mask = own, additive(attention_mask, query.dtype)
    return function(module, query, key, value, attention_mask, **kwargs)


def additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A bool mask, True = valid, as what is added to scores; any other as it is."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def plain_softmax(query: Tensor, key: Tensor, value: Tensor, masks: CallMasks, scaling: float) -> Tensor:
    """softmax(scaling · q·k + bias) v of (B, H, N, D) tensors, keys and values per group: (B, Nq, H, Dv) in float32."""
    v = value.float().repeat_interleave(query.shape[1] // value.shape[1], 1)
    return (softmax_probabilities(query, key, masks, scaling) @ v).transpose(1, 2)


def softmax_probabilities(query: Tensor, key: Tensor, masks: CallMasks, scaling: float) -> Tensor:
    """softmax(scaling · q·k + bias) of (B, H, N, D) tensors, keys per group: (B, H, Nq, Nk) in float32."""
    k = key.float().repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = query.float() @ k.transpose(-1, -2) * scaling
    if masks.bias is not None:
        scores = scores + masks.bias
    valid = masks.valid(query.shape[2], key.shape[2])
    return scores.masked_fill(~valid, -torch.inf).softmax(-1).nan_to_num(0.0)  # a row without keys
