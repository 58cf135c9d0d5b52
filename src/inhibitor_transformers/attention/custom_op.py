"""The operation as a torch operator that compiled engines share: fake kernels, autograd, double backward.

What surrounds it (casting, and everything torch can differentiate by itself) stays plain torch, so autocast,
torch.compile and torch.export need nothing special.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

from . import reference
from .call import AttentionCall
from .kept import keep, kept
from .kernels import KERNELS
from .layout import Masks, Options, Tensors, heads_last

_TENSORS = ("query", "key", "value", "gamma", "eta", "delta", "length_exponent")


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
    out, saved = KERNELS[engine].forward(tensors, (key_padding_mask, attn_mask), options, True)
    assert saved is not None
    return out, saved


@attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    saved = query.new_empty((KERNELS[rest[-1]].saved, *query.shape[:3]), dtype=torch.float32)
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
    """Gradients of query, key, value, and of the scalars per row of the batch as (4, B, H), in the order given."""
    tensors = (query, key, value, gamma, eta, delta, length_exponent)
    options = (length_reference, is_causal, is_signed, is_centered)
    masks = (key_padding_mask, attn_mask)
    _check_that_all_fit(grad, (out, saved, *tensors, *masks), KERNELS[engine].saved)
    return KERNELS[engine].backward(grad, out, saved, tensors, masks, options)


def _check_that_all_fit(grad: Tensor, given: tuple[Tensor | None, ...], saved: int) -> None:
    """Raises RuntimeError for tensors that a kernel cannot read: compiled code saves without `keep`."""
    key = given[3]
    assert key is not None
    (batch, heads, queries, _), (kv_heads, keys, dim) = grad.shape, key.shape[1:]
    of_values, per_head = (batch, kv_heads, keys, grad.shape[3]), (heads,)
    shapes: tuple[tuple[int, ...], ...] = (
        grad.shape,
        (saved, batch, heads, queries),
        (batch, heads, queries, dim),
        (batch, *key.shape[1:]),
    )
    shapes += (of_values, *(per_head,) * 4, (batch, keys), (batch, heads, queries, keys))
    dtypes = (grad.dtype, torch.float32, *(grad.dtype,) * 3, *(torch.float32,) * 4, torch.bool, torch.bool)
    for t, shape, dtype in zip(given, shapes, dtypes, strict=True):
        if t is not None and (t.shape != shape or t.dtype != dtype or t.device != grad.device):
            raise RuntimeError(
                f"inhibitor attention needs {tuple(shape)}, {dtype} for its backward pass, got {tuple(t.shape)}, "
                f"{t.dtype}: a hook of torch.autograd.graph.saved_tensors_hooks must return what was saved"
            )


@attention_backward.register_fake
def _(
    grad: Tensor, out: Tensor, saved: Tensor, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gradients = tuple(heads_last(t, t.shape[-1]) for t in (query, key, value))
    return gradients[0], gradients[1], gradients[2], gamma.new_empty((4, *query.shape[:2]))


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    keep(ctx, *output, *inputs[:9])
    ctx.options = inputs[9:]


def _backward(ctx: Any, grad: Tensor, _grad_of_saved: Tensor | None) -> tuple[Any, ...]:
    gq, gk, gv, scalars = torch.ops.inhibitor.attention_backward(grad, *kept(ctx), *ctx.options)
    return (gq, gk, gv, *scalars.sum(1).unbind(0), *(None,) * 7)


attention.register_autograd(_backward, setup_context=_save_for_backward)


def _save_for_double_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    keep(ctx, inputs[0], *inputs[3:12])
    ctx.options = inputs[12:]


def _double_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    grad, *tensors, key_padding_mask, attn_mask = kept(ctx)
    second = second_gradients(grads, grad, tuple(tensors), (key_padding_mask, attn_mask), ctx.options[:4])
    return (second[0], None, None, *second[1:], *(None,) * 7)


def second_gradients(
    grads: tuple[Tensor, ...], grad: Tensor, tensors: Tensors, masks: Masks, options: Options
) -> tuple[Tensor, ...]:
    """For gradients of what `attention_backward` returns, those of its `grad` and of `tensors`.

    Differentiates the reference's gradient: rare, so that it need not be fast. Can itself be differentiated.
    """

    def out(*tensors: Tensor) -> Tensor:
        length_reference, is_causal, is_signed, is_centered = options
        call = AttentionCall(
            **dict(zip(_TENSORS, tensors, strict=True)),
            length_reference=length_reference,
            key_padding_mask=masks[0],
            attn_mask=masks[1],
            is_causal=is_causal,
            signed=is_signed,
            center="mean" if is_centered else "none",
        )
        return reference.run(call)

    def first(grad: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        rows = [s.expand(grad.shape[0], -1) for s in tensors[3:]]  # a gradient for each row of the batch
        gradients = torch.func.vjp(out, *tensors[:3], *rows)[1](grad)
        return (*gradients[:3], torch.stack(gradients[3:]))

    second: tuple[Tensor, ...] = torch.func.vjp(first, grad, *tensors)[1](grads)
    return second


attention_backward.register_autograd(_double_backward, setup_context=_save_for_double_backward)
