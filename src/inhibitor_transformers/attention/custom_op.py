"""The operation as a torch operator that compiled engines share: fake kernels, autograd, double backward.

What surrounds it (casting, and everything torch can differentiate by itself) stays plain torch, so autocast,
torch.compile and torch.export need nothing special. Plain eager calls skip the dispatcher: for a short sentence it
takes longer than the attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, library

from . import reference
from .call import AttentionCall
from .layout import Masks, Options, Tensors, heads_last

_TENSORS = ("query", "key", "value", "gamma", "eta", "delta", "length_exponent")


@dataclass(frozen=True)
class Kernels:
    """What an engine computes; query, key, value in its dtypes, the scalars (H,) float32.

    `forward(tensors, masks, options, saving)` returns H in the dtype of the query, laid out as `heads_last`, and what
    its backward pass wants to have saved, of the shape `saved_shape(query)` in float32 (None where `saving` is False).
    `backward(grad, out, saved, tensors, masks, options)` returns the gradients of query, key, value, laid out alike,
    and of the scalars as (4, H): gamma, eta, delta, length exponent.
    """

    forward: Callable[[Tensors, Masks, Options, bool], tuple[Tensor, Tensor | None]]
    backward: Callable[[Tensor, Tensor, Tensor, Tensors, Masks, Options], tuple[Tensor, Tensor, Tensor, Tensor]]
    saved_shape: Callable[[Tensor], tuple[Any, ...]]


_KERNELS: dict[str, Kernels] = {}


def register(engine: str, kernels: Kernels) -> None:
    """Make the kernels of `engine` known to the operator."""
    _KERNELS[engine] = kernels


def apply(engine: str, tensors: Tensors, masks: Masks, options: Options) -> Tensor:
    """H by the kernels of `engine`; by the operator where somebody watches or transforms operators."""
    out: Tensor
    if not is_plain(tensors):
        out, _ = torch.ops.inhibitor.attention(*tensors, *masks, *options, engine)
    elif torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        out = _Attention.apply(*tensors, *masks, options, engine)
    else:
        out, _ = _KERNELS[engine].forward(tensors, masks, options, False)
    return out


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
        *arguments, options, engine = args
        out, saved = _KERNELS[engine].forward(tuple(arguments[:7]), tuple(arguments[7:]), options, True)
        ctx.save_for_backward(out, saved, *arguments)
        ctx.options, ctx.engine = options, engine
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled() or not is_plain((grad,)):  # the operator can be differentiated again
            *gradients, scalars = torch.ops.inhibitor.attention_backward(
                grad, *ctx.saved_tensors, *ctx.options, ctx.engine
            )
        else:
            out, saved, *tensors, key_padding_mask, attn_mask = ctx.saved_tensors
            *gradients, scalars = _KERNELS[ctx.engine].backward(
                grad, out, saved, tuple(tensors), (key_padding_mask, attn_mask), ctx.options
            )
        per_head = scalars.unbind(0) if any(ctx.needs_input_grad[3:7]) else (None,) * 4
        return (*gradients, *per_head, None, None, None, None)


@library.custom_op("inhibitor::attention", mutates_args=())
def attention(
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
    engine: str,
) -> tuple[Tensor, Tensor]:
    """H, and what the backward pass of `engine` wants; arguments as in `AttentionCall`."""
    tensors = (query, key, value, gamma, eta, delta, length_exponent)
    options = (length_reference, is_causal, is_signed, is_centered)
    out, saved = _KERNELS[engine].forward(tensors, (key_padding_mask, attn_mask), options, True)
    assert saved is not None
    return out, saved


@attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    saved = query.new_empty(_KERNELS[rest[-1]].saved_shape(query), dtype=torch.float32)
    return heads_last(query, value.shape[-1]), saved


@library.custom_op("inhibitor::attention_backward", mutates_args=())
def attention_backward(
    grad: Tensor,
    out: Tensor,
    saved: Tensor,
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
    engine: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value, and of the scalars as (4, H): gamma, eta, delta, length exponent."""
    tensors = (query, key, value, gamma, eta, delta, length_exponent)
    options = (length_reference, is_causal, is_signed, is_centered)
    return _KERNELS[engine].backward(grad, out, saved, tensors, (key_padding_mask, attn_mask), options)


@attention_backward.register_fake
def _(
    grad: Tensor, out: Tensor, saved: Tensor, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gradients = tuple(heads_last(t, t.shape[-1]) for t in (query, key, value))
    return gradients[0], gradients[1], gradients[2], gamma.new_empty((4, query.shape[1]))


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    out, saved = output
    ctx.mark_non_differentiable(saved)
    ctx.save_for_backward(out, saved, *inputs[:9])
    ctx.options = inputs[9:]


def _backward(ctx: Any, grad: Tensor, _grad_of_saved: Tensor | None) -> tuple[Any, ...]:
    gq, gk, gv, scalars = torch.ops.inhibitor.attention_backward(grad, *ctx.saved_tensors, *ctx.options)
    return (gq, gk, gv, *scalars.unbind(0), *(None,) * 7)


attention.register_autograd(_backward, setup_context=_save_for_backward)


def _save_for_double_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(inputs[0], *inputs[3:12])
    ctx.options = inputs[12:]


def _double_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """Differentiates the reference's gradient: rare, so that it need not be fast."""
    grad, *tensors, key_padding_mask, attn_mask = ctx.saved_tensors
    length_reference, is_causal, is_signed, is_centered, _engine = ctx.options
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
    return (second[0], None, None, *second[1:], *(None,) * 7)


attention_backward.register_autograd(_double_backward, setup_context=_save_for_double_backward)
