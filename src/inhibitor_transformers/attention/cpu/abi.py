"""Tensors as the C++ kernels take them: the C structure of a call."""

from __future__ import annotations

from torch import Tensor

from ..layout import Masks, Options, Tensors
from . import library as native

_NO_SCALARS = (0,) * 8
_NO_GRADIENTS = (0,) * 17


def unit_stride(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 or t.shape[-1] <= 1 else t.contiguous()


def pointer(t: Tensor) -> tuple[int, ...]:
    return (t.data_ptr(), *t.stride()[:3])


def pack_call(
    inputs: list[Tensor],
    scalars: Tensors | None,
    masks: Masks,
    options: Options,
    out: Tensor,
    gradients: tuple[int, ...] = _NO_GRADIENTS,
) -> bytes:
    """The C structure of a call; the caller keeps every tensor alive."""
    query, key, value = inputs
    batch, heads, queries, dim = query.shape
    kv_heads, keys, value_dim = value.shape[1:]
    key_mask, attn_mask = masks
    return native.CALL.pack(
        *(batch, heads, kv_heads, queries, keys, dim, value_dim),
        *pointer(query),
        *pointer(key),
        *pointer(value),
        *(_NO_SCALARS if scalars is None else (x for t in scalars for x in (t.data_ptr(), t.stride(0)))),
        options[0],
        *((0,) * 3 if key_mask is None else (key_mask.data_ptr(), *key_mask.stride())),
        *((0,) * 5 if attn_mask is None else (attn_mask.data_ptr(), *attn_mask.stride())),
        *options[1:],
        native.threads(),
        *pointer(out),
        *gradients,
    )
