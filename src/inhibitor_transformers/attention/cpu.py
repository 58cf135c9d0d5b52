"""The compiled CPU engine as a torch operator: fake kernels, autograd, and how it serves a call.

The operator computes in float32. What surrounds it (casting, and everything torch can differentiate
by itself) stays plain torch, so autocast, torch.compile and torch.export need nothing special.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from . import native, reference
from .call import AttentionCall

Masks = tuple[Tensor | None, Tensor | None]
Options = tuple[float, bool, bool, bool]

_TENSORS = ("query", "key", "value", "gamma", "eta", "delta", "length_exponent")


def unavailable() -> str | None:
    """Why this machine cannot run the engine; None: it can."""
    return native.unavailable()


def description() -> str:
    """The instruction set in use and the threads."""
    try:
        library = native.library()
    except native.UnavailableError:
        return "fused C++ kernels"
    return f"fused C++ kernels, {library.isa} of {', '.join(library.isas)}; threads: {library.threading}"


def refuses(call: AttentionCall) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    if call.query.device.type != "cpu":
        return f"it runs on CPU tensors, the query is on {call.query.device}"
    if call.query.dtype == torch.float64:
        return "it computes in float32, the query is float64"
    return None


def run(call: AttentionCall) -> Tensor:
    """The context H, (B, H, Nq, Dv), in the dtype of the query."""
    out: Tensor = torch.ops.inhibitor.cpu_forward(
        *(t.to(torch.float32) for t in call.tensors()),
        call.key_padding_mask,
        call.attn_mask,
        call.length_reference,
        call.is_causal,
        call.signed,
        call.center == "mean",
    )
    return out.to(call.query.dtype)


@torch.library.custom_op("inhibitor::cpu_forward", mutates_args=(), device_types="cpu")
def cpu_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    length_reference: float,
    is_causal: bool,
    is_signed: bool,
    is_centered: bool,
) -> Tensor:
    """H in float32; arguments as in `AttentionCall`, all float32."""
    inputs = [_unit_stride(t) for t in (query, key, value)]
    out = _heads_last(query, value.shape[-1])
    options = (length_reference, is_causal, is_signed, is_centered)
    call = _describe(inputs, (gamma, eta, delta, length_exponent), (key_padding_mask, attn_mask), options, out)
    native.library().forward(call)
    return out


@cpu_forward.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    length_reference: float,
    is_causal: bool,
    is_signed: bool,
    is_centered: bool,
) -> Tensor:
    return _heads_last(query, value.shape[-1])


@torch.library.custom_op("inhibitor::cpu_backward", mutates_args=(), device_types="cpu")
def cpu_backward(
    grad: Tensor,
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    length_reference: float,
    is_causal: bool,
    is_signed: bool,
    is_centered: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value, and of the scalars as (4, H): gamma, eta, delta, length exponent."""
    inputs = [_unit_stride(t) for t in (query, key, value)]
    grad, out = _unit_stride(grad), _unit_stride(out)
    options = (length_reference, is_causal, is_signed, is_centered)
    call = _describe(inputs, (gamma, eta, delta, length_exponent), (key_padding_mask, attn_mask), options, out)
    grads = tuple(_heads_last(t, t.shape[-1]) for t in inputs)
    if key_padding_mask is not None:  # the kernels never touch an invalid key, nor its gradient
        for t in grads[1:]:
            t.zero_()
    scalars = query.new_empty((4, *query.shape[:2]))
    call.grad_out = _tensor4(grad)
    call.grad_query, call.grad_key, call.grad_value = (_tensor4(t) for t in grads)
    call.grad_scalars = scalars.data_ptr()
    native.library().backward(call)
    return grads[0], grads[1], grads[2], scalars.sum(1)


@cpu_backward.register_fake
def _(
    grad: Tensor,
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    length_reference: float,
    is_causal: bool,
    is_signed: bool,
    is_centered: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grads = tuple(_heads_last(t, t.shape[-1]) for t in (query, key, value))
    return grads[0], grads[1], grads[2], query.new_empty((4, query.shape[1]))


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[:9])
    ctx.options = inputs[9:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    gq, gk, gv, scalars = torch.ops.inhibitor.cpu_backward(grad, *ctx.saved_tensors, *ctx.options)
    return (gq, gk, gv, *scalars.unbind(0), *(None,) * 6)


cpu_forward.register_autograd(_backward, setup_context=_save_for_backward)


def _save_for_double_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(inputs[0], *inputs[2:11])
    ctx.options = inputs[11:]


def _double_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """Differentiates the reference's gradient: rare, so that it need not be fast."""
    grad, *tensors, key_padding_mask, attn_mask = ctx.saved_tensors
    length_reference, is_causal, is_signed, is_centered = ctx.options
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (grad, *tensors)]
        named = dict(zip(_TENSORS, leaves[1:], strict=True))
        call = AttentionCall(
            **named,
            length_reference=length_reference,
            key_padding_mask=key_padding_mask,
            attn_mask=attn_mask,
            is_causal=is_causal,
            signed=is_signed,
            center="mean" if is_centered else "none",
        )
        first = torch.autograd.grad(reference.run(call), leaves[1:], leaves[0], create_graph=True)
        scalars = torch.stack(first[3:])
        second = torch.autograd.grad((*first[:3], scalars), leaves, grads, allow_unused=True)
    return (second[0], None, *second[1:], *(None,) * 6)


cpu_backward.register_autograd(_double_backward, setup_context=_save_for_double_backward)


def _heads_last(like: Tensor, features: int) -> Tensor:
    """An empty (B, H, N, features) whose memory is (B, N, H, features): merging the heads is then free."""
    batch, heads, rows = like.shape[:3]
    return like.new_empty((batch, rows, heads, features)).transpose(1, 2)


def _unit_stride(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 or t.shape[-1] <= 1 else t.contiguous()


def _tensor4(t: Tensor) -> native.Tensor4:
    return native.Tensor4(t.data_ptr(), (ctypes.c_int64 * 3)(*t.stride()[:3]))


def _describe(
    inputs: list[Tensor], scalars: tuple[Tensor, ...], masks: Masks, options: Options, out: Tensor
) -> native.InhibitorCall:
    """The C structure of a call; the caller keeps every tensor alive."""
    query, _, value = inputs
    call = native.InhibitorCall()
    call.batch, call.heads, call.queries, call.dim = query.shape
    call.kv_heads, call.keys, call.value_dim = value.shape[1:]
    call.query, call.key, call.value, call.out = (_tensor4(t) for t in (*inputs, out))
    call.gamma, call.eta, call.delta, call.length_exponent = (
        native.PerHead(t.data_ptr(), t.stride(0)) for t in scalars
    )
    key_padding_mask, attn_mask = masks
    if key_padding_mask is not None:
        call.key_mask = key_padding_mask.data_ptr()
        call.key_mask_stride = (ctypes.c_int64 * 2)(*key_padding_mask.stride())
    if attn_mask is not None:
        call.attn_mask = attn_mask.data_ptr()
        call.attn_mask_stride = (ctypes.c_int64 * 4)(*attn_mask.stride())
    call.length_reference, call.is_causal, call.is_signed, call.is_centered = options
    call.threads = native.threads()
    return call
