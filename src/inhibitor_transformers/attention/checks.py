"""Checks the arguments of a call at the border, so that engines need not."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .call import CENTERS, AttentionCall, Center, Scalar, compute_dtype

_SCALARS = ("gamma", "eta", "delta", "length_exponent")


def make_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    gamma: Scalar,
    eta: Scalar,
    delta: Scalar,
    length_exponent: Scalar,
    length_reference: float,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    signed: bool,
    center: Center,
    score_bias: Tensor | None = None,
    key_norm: Scalar | None = None,
    unit: Scalar | None = None,
) -> AttentionCall:
    """Check every argument, then return them in the form that engines receive. Raises ValueError."""
    masked = check_masked(
        query,
        key,
        value,
        key_padding_mask=key_padding_mask,
        attn_mask=attn_mask,
        is_causal=is_causal,
        signed=signed,
        center=center,
    )
    check_length_reference(length_reference)
    wanted = (query.shape[1], compute_dtype(query.dtype), query.device)
    scalars: dict[str, Any] = {
        name: _per_head(name, given, *wanted)
        for name, given in zip(_SCALARS, (gamma, eta, delta, length_exponent), strict=True)
    }
    for name, given in (("key_norm", key_norm), ("unit", unit)):
        scalars[name] = None if given is None else _per_head(name, given, *wanted)
    bias = None if score_bias is None else _check_score_bias(score_bias, query, key)
    return AttentionCall(**masked, **scalars, length_reference=float(length_reference), score_bias=bias)


def check_masked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    signed: bool,
    center: Center,
) -> dict[str, Any]:
    """The fields of `MaskedTensors`, checked. Raises ValueError."""
    _check_tensors(query, key, value)
    if center not in CENTERS:
        raise ValueError(f"center must be one of {list(CENTERS)}, got {center!r}")
    return {
        "query": query,
        "key": key,
        "value": value,
        "key_padding_mask": _check_key_padding_mask(key_padding_mask, key),
        "attn_mask": _check_attn_mask(attn_mask, query, key),
        "is_causal": bool(is_causal),
        "signed": bool(signed),
        "center": center,
    }


def check_length_reference(given: float) -> None:
    """Raises ValueError for what cannot be n₀."""
    if not (isinstance(given, (int, float)) and 0 < given < math.inf):
        raise ValueError(f"length_reference must be a positive number of keys, got {given!r}")


def _check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    named = {"query": query, "key": key, "value": value}
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
        _check_dense(name, tensor)
        if tensor.dim() != 4:
            raise ValueError(f"{name} must have 4 dimensions (batch, heads, length, features), got {_shape(tensor)}")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be a floating tensor, got {tensor.dtype}")
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(f"query, key and value must share one dtype, got {query.dtype}, {key.dtype}, {value.dtype}")
    if not query.device == key.device == value.device:
        raise ValueError(
            f"query, key and value must be on one device, got {query.device}, {key.device}, {value.device}"
        )
    batch, heads, _, features = query.shape
    batch_of_key, kv_heads, keys, features_of_key = key.shape
    batch_of_value, value_heads, values, _ = value.shape
    if not batch == batch_of_key == batch_of_value:
        raise ValueError(f"batch sizes differ: {_shapes(named)}")
    if kv_heads != value_heads:
        raise ValueError(f"key and value must have the same number of heads: {_shapes(named)}")
    if keys != values:
        raise ValueError(f"key and value must have the same length: {_shapes(named)}")
    if features != features_of_key:
        raise ValueError(f"query and key must have the same number of features: {_shapes(named)}")
    if features == 0:
        raise ValueError(f"query and key need at least one feature: {_shapes(named)}")
    if (kv_heads == 0 and heads != 0) or (kv_heads and heads % kv_heads):
        raise ValueError(f"query heads ({heads}) must be a multiple of key/value heads ({kv_heads})")


def _check_dense(name: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or tensor.is_nested:
        kind = "a nested tensor" if tensor.is_nested else str(tensor.layout)
        raise ValueError(f"{name} must be a dense tensor, got {kind}")


def _per_head(name: str, given: Scalar, heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if isinstance(given, Tensor):
        if (
            given.dtype is dtype
            and given.shape == (heads,)
            and given.device == device
            and given.layout is torch.strided
        ):
            return given  # a model's own scalars: for a short text the steps below would take longer than its attention
        if given.dim() > 1 or (given.dim() == 1 and given.shape[0] != heads):
            raise ValueError(f"{name} must be a number or one per head, shape ({heads},), got {_shape(given)}")
        if not given.is_floating_point():
            raise ValueError(f"{name} must be a floating tensor, got {given.dtype}")
        _check_dense(name, given)
        if given.device != device and given.dim() != 0:
            raise ValueError(f"{name} is on {given.device}, the query on {device}")
        return given.to(device=device, dtype=dtype).expand(heads)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ValueError(f"{name} must be a number or a tensor of shape ({heads},), got {type(given).__name__}")
    return torch.full((heads,), float(given), device=device, dtype=dtype)


def _check_bool_mask(name: str, mask: Tensor, query: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"{name} must be a bool tensor with True = valid, got {kind}; additive masks cannot be added to distances, "
            "but score_bias is added to scores"
        )
    _check_dense(name, mask)
    if mask.device != query.device:
        raise ValueError(f"{name} is on {mask.device}, the query on {query.device}")


def _check_key_padding_mask(mask: Tensor | None, key: Tensor) -> Tensor | None:
    if mask is None:
        return None
    _check_bool_mask("key_padding_mask", mask, key)
    expected = (key.shape[0], key.shape[2])
    if tuple(mask.shape) != expected:
        raise ValueError(f"key_padding_mask must have shape (batch, keys) = {expected}, got {_shape(mask)}")
    return mask


def _check_attn_mask(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    if mask is None:
        return None
    _check_bool_mask("attn_mask", mask, query)
    full = (*query.shape[:3], key.shape[2])
    try:
        return mask.expand(full)
    except RuntimeError:
        raise ValueError(
            f"attn_mask must be broadcastable to (batch, heads, queries, keys) = {tuple(full)}, got {_shape(mask)}"
        ) from None


def _check_score_bias(bias: Tensor, query: Tensor, key: Tensor) -> Tensor:
    if not isinstance(bias, Tensor):
        raise ValueError(f"score_bias must be a torch.Tensor, got {type(bias).__name__}")
    _check_dense("score_bias", bias)
    heads, queries, keys = query.shape[1], query.shape[2], key.shape[2]
    if bias.dim() != 3 or bias.shape[0] not in (1, heads) or tuple(bias.shape[1:]) != (queries, keys):
        raise ValueError(
            f"score_bias must have shape (heads or 1, queries, keys) = ({heads} or 1, {queries}, {keys}), "
            f"got {_shape(bias)}"
        )
    dtype = compute_dtype(query.dtype)
    if bias.dtype not in (dtype, query.dtype):
        wanted = dtype if dtype == query.dtype else f"{query.dtype} or {dtype}"
        raise ValueError(f"score_bias must be {wanted}, got {bias.dtype}")
    if bias.device != query.device:
        raise ValueError(f"score_bias is on {bias.device}, the query on {query.device}")
    return bias.to(dtype)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _shapes(named: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {_shape(tensor)}" for name, tensor in named.items())
