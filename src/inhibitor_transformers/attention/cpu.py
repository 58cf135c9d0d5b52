"""The compiled CPU engine as a torch operator: fake kernels, autograd, and how it serves a call.

The operator computes in float32. What surrounds it (casting, and everything torch can differentiate
by itself) stays plain torch, so autocast, torch.compile and torch.export need nothing special.
Plain eager calls skip the dispatcher: for a short sentence it takes longer than the attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

from . import native, reference
from .call import AttentionCall
from .native_call import Masks, Options, Tensors, heads_last, pack_call, pointer, unit_stride

_TENSORS = ("query", "key", "value", "gamma", "eta", "delta", "length_exponent")


def unavailable() -> str | None:
    """Why this machine cannot run the engine; None: it can."""
    return native.unavailable()


def describe() -> str:
    """The instruction set in use, those to choose from, and whose threads run."""
    what = "fused C++ kernels in float32, CPU tensors"
    try:
        library = native.kernels()
    except native.UnavailableError:
        return what
    sets = f"instruction set {library.isa} of {', '.join(library.isas)}, integers {library.integer_isa}"
    return f"{what}; {sets}; threads: {library.threading}"


def refuses(call: AttentionCall) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    if call.query.device.type != "cpu":
        return f"it runs on CPU tensors, the query is on {call.query.device}"
    if call.query.dtype == torch.float64:
        return "it computes in float32, the query is float64"
    return None


def run(call: AttentionCall) -> Tensor:
    """The context H, (B, H, Nq, Dv), in the dtype of the query."""
    tensors = tuple(t if t.dtype == torch.float32 else t.to(torch.float32) for t in call.tensors())
    masks = (call.key_padding_mask, call.attn_mask)
    options = (call.length_reference, call.is_causal, call.signed, call.center == "mean")
    out: Tensor
    if not is_plain(tensors):
        out = torch.ops.inhibitor.cpu_forward(*tensors, *masks, *options)
    elif torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        out = _Attention.apply(*tensors, *masks, options)
    else:
        out = _forward(tensors, masks, options)
    return out if out.dtype == call.query.dtype else out.to(call.query.dtype)


def is_plain(tensors: Tensors) -> bool:
    """Real tensors, and nobody who watches or transforms operators: the kernels may be called directly."""
    return (
        not torch.compiler.is_compiling()
        and all(type(t) in _PLAIN_TYPES for t in tensors)
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


class _Attention(torch.autograd.Function):
    """The operator without its dispatcher."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        out = _forward(args[:7], args[7:9], args[9])
        ctx.save_for_backward(out, *args[:9])
        ctx.options = args[9]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled() or not is_plain((grad,)):  # the operator can be differentiated again
            return _backward(ctx, grad)[:10]
        out, *tensors, key_padding_mask, attn_mask = ctx.saved_tensors
        *grads, scalars = _gradients(grad, out, tuple(tensors), (key_padding_mask, attn_mask), ctx.options)
        per_head = scalars.sum(1).unbind(0) if any(ctx.needs_input_grad[3:7]) else (None,) * 4
        return (*grads, *per_head, None, None, None)


@library.custom_op("inhibitor::cpu_forward", mutates_args=(), device_types="cpu")
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
    tensors = (query, key, value, gamma, eta, delta, length_exponent)
    return _forward(tensors, (key_padding_mask, attn_mask), (length_reference, is_causal, is_signed, is_centered))


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
    return heads_last(query, value.shape[-1])


@library.custom_op("inhibitor::cpu_backward", mutates_args=(), device_types="cpu")
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
    tensors = (query, key, value, gamma, eta, delta, length_exponent)
    options = (length_reference, is_causal, is_signed, is_centered)
    *grads, scalars = _gradients(grad, out, tensors, (key_padding_mask, attn_mask), options)
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
    grads = tuple(heads_last(t, t.shape[-1]) for t in (query, key, value))
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


def _forward(tensors: Tensors, masks: Masks, options: Options) -> Tensor:
    inputs = [unit_stride(t) for t in tensors[:3]]
    out = heads_last(inputs[0], inputs[2].shape[-1])
    native.kernels().forward(pack_call(inputs, tensors[3:], masks, options, out))
    return out


def _gradients(
    grad: Tensor, out: Tensor, tensors: Tensors, masks: Masks, options: Options
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value, and of the scalars per batch row: (4, B, H)."""
    inputs = [unit_stride(t) for t in tensors[:3]]
    grad, out = unit_stride(grad), unit_stride(out)
    gq, gk, gv = (heads_last(t, t.shape[-1]) for t in inputs)
    if masks[0] is not None:  # the kernels never touch an invalid key, nor its gradient
        gk.zero_()
        gv.zero_()
    scalars = inputs[0].new_empty((4, *inputs[0].shape[:2]))
    outputs = (*pointer(grad), *pointer(gq), *pointer(gk), *pointer(gv), scalars.data_ptr())
    native.kernels().backward(pack_call(inputs, tensors[3:], masks, options, out, outputs))
    return gq, gk, gv, scalars
