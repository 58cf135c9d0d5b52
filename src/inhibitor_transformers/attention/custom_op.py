"""The operation as a torch operator that compiled engines share: fake kernels, autograd, double backward.

What surrounds it (casting, and everything torch can differentiate by itself) stays plain torch, so autocast,
torch.compile and torch.export need nothing special.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, library

from . import reference
from .call import AttentionCall, Masks, Options, Tensors, spread
from .engine import KERNELS, heads_last
from .saved_tensors import save_for_backward, saved_tensors


class CallArgs(NamedTuple):
    """The arguments of `inhibitor::attention`; its backward operator adds grad, out, saved before, with_bias after."""

    query: Tensor
    key: Tensor
    value: Tensor
    gamma: Tensor
    eta: Tensor
    delta: Tensor
    length_exponent: Tensor
    key_norm: Tensor | None
    unit: Tensor | None
    score_bias: Tensor | None
    key_padding_mask: Tensor | None
    attn_mask: Tensor | None
    length_reference: float
    is_causal: bool
    is_signed: bool
    center: str
    engine: str

    @property
    def tensors(self) -> Tensors:
        scalars = (self.gamma, self.eta, self.delta, self.length_exponent, self.key_norm, self.unit)
        return Tensors(self.query, self.key, self.value, *scalars, self.score_bias)

    @property
    def masks(self) -> Masks:
        return Masks(self.key_padding_mask, self.attn_mask)

    @property
    def options(self) -> Options:
        return Options(self.length_reference, self.is_causal, self.is_signed, self.center)


@library.custom_op("inhibitor::attention", mutates_args=())
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    key_norm: Tensor | None,
    unit: Tensor | None,
    score_bias: Tensor | None,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    length_reference: float,
    is_causal: bool,
    is_signed: bool,
    center: str,
    engine: str,
) -> tuple[Tensor, Tensor]:
    """H (B, H, Nq, Dv), and what the backward pass of `engine` reads (`Kernels`); arguments as in `AttentionCall`."""
    tensors = Tensors(query, key, value, gamma, eta, delta, length_exponent, key_norm, unit, score_bias)
    options = Options(length_reference, is_causal, is_signed, center)
    out, saved = KERNELS[engine].forward(tensors, Masks(key_padding_mask, attn_mask), options, True)
    assert saved is not None
    return out, saved


@attention.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor]:
    args = CallArgs(*inputs)
    saved = args.query.new_empty((KERNELS[args.engine].saved, *args.query.shape[:3]), dtype=torch.float32)
    return heads_last(args.query, args.value.shape[-1]), saved


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
    key_norm: Tensor | None,
    unit: Tensor | None,
    score_bias: Tensor | None,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    length_reference: float,
    is_causal: bool,
    is_signed: bool,
    center: str,
    engine: str,
    with_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value; of the scalars for each sequence of the batch, (scalars, B, H), in the order
    given; and of the bias, in its shape (with_bias; else an empty tensor).

    Raises RuntimeError for tensors that a hook has changed between the passes.
    """
    tensors = Tensors(query, key, value, gamma, eta, delta, length_exponent, key_norm, unit, score_bias)
    options = Options(length_reference, is_causal, is_signed, center)
    masks = Masks(key_padding_mask, attn_mask)
    _check_saved(grad, out, saved, tensors, masks, KERNELS[engine].saved)
    *gradients, bias = KERNELS[engine].backward(grad, out, saved, tensors, masks, options, with_bias)
    gq, gk, gv, scalars = gradients
    return gq, gk, gv, scalars, scalars.new_empty(0) if bias is None else bias


def _check_saved(grad: Tensor, out: Tensor, saved: Tensor, tensors: Tensors, masks: Masks, numbers: int) -> None:
    """Raises RuntimeError for tensors that a kernel cannot read: compiled code saves without `save_for_backward`."""
    (batch, heads, queries, value_dim), (kv_heads, keys, dim) = grad.shape, tensors.key.shape[1:]
    dtype = grad.dtype
    expected: list[tuple[Tensor | None, tuple[int, ...], torch.dtype]] = [
        (out, (batch, heads, queries, value_dim), dtype),
        (saved, (numbers, batch, heads, queries), torch.float32),
        (tensors.query, (batch, heads, queries, dim), dtype),
        (tensors.key, (batch, kv_heads, keys, dim), dtype),
        (tensors.value, (batch, kv_heads, keys, value_dim), dtype),
        *((scalar, (heads,), torch.float32) for scalar in tensors.scalars),
        (tensors.score_bias, (_bias_heads(tensors), queries, keys), torch.float32),
        (masks.key_padding_mask, (batch, keys), torch.bool),
        (masks.attn_mask, (batch, heads, queries, keys), torch.bool),
    ]
    for t, shape, dtype in expected:
        if t is not None and (t.shape != shape or t.dtype != dtype or t.device != grad.device):
            raise RuntimeError(
                f"inhibitor attention needs {tuple(shape)}, {dtype} for its backward pass, got {tuple(t.shape)}, "
                f"{t.dtype}: a hook of torch.autograd.graph.saved_tensors_hooks must return what was saved"
            )


def _bias_heads(tensors: Tensors) -> int:
    """1 where the bias is the same for all heads."""
    heads = tensors.query.shape[1]
    return 1 if tensors.score_bias is not None and tensors.score_bias.shape[0] == 1 else heads


@attention_backward.register_fake
def _(grad: Tensor, out: Tensor, saved: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    *inputs, with_bias = rest
    args = CallArgs(*inputs)
    gq, gk, gv = (heads_last(t, t.shape[-1]) for t in args.tensors.qkv)
    bias = args.gamma.new_empty(args.score_bias.shape if args.score_bias is not None and with_bias else 0)
    scalars = sum(s is not None for s in args.tensors.scalars)
    return gq, gk, gv, args.gamma.new_empty((scalars, *args.query.shape[:2])), bias


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    out, saved = output
    args = CallArgs(*inputs)
    ctx.mark_non_differentiable(saved)
    save_for_backward(ctx, out, saved, *args.tensors, *args.masks)
    ctx.options, ctx.engine = args.options, args.engine


def _backward(ctx: Any, grad: Tensor, _grad_of_saved: Tensor | None) -> tuple[Any, ...]:
    with_bias = bool(CallArgs(*ctx.needs_input_grad).score_bias)
    out, saved, *tensors, key_padding_mask, attn_mask = saved_tensors(ctx)
    given = (grad, out, saved, *tensors, key_padding_mask, attn_mask, *ctx.options, ctx.engine, with_bias)
    gq, gk, gv, scalars, bias = torch.ops.inhibitor.attention_backward(*given)
    per_head = spread(scalars.sum(1).unbind(0), Tensors(*tensors).scalars)
    return (gq, gk, gv, *per_head, bias if with_bias else None, *(None,) * 7)


attention.register_autograd(_backward, setup_context=_save_for_backward)


def _save_for_double_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, _out, _saved, *rest, with_bias = inputs
    args = CallArgs(*rest)
    save_for_backward(ctx, grad, *args.tensors, *args.masks)
    ctx.options, ctx.with_bias = args.options, with_bias


def _double_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    grad, *tensors, key_padding_mask, attn_mask = saved_tensors(ctx)
    grad_of_grad, *tensor_grads = second_gradients(
        grads, grad, Tensors(*tensors), Masks(key_padding_mask, attn_mask), ctx.options, ctx.with_bias
    )
    return (grad_of_grad, None, None, *tensor_grads, *(None,) * 8)


def second_gradients(
    grads: tuple[Tensor, ...], grad: Tensor, tensors: Tensors, masks: Masks, options: Options, with_bias: bool
) -> tuple[Tensor | None, ...]:
    """Double backward: from gradients of what `attention_backward` returns those of its `grad` and of `tensors`.

    Differentiates the reference's gradient: rare, so that it need not be fast. Can itself be differentiated.
    """

    def out(*present: Tensor) -> Tensor:
        call = AttentionCall(
            **Tensors(*spread(present, tensors))._asdict(),
            **masks._asdict(),
            length_reference=options.length_reference,
            is_causal=options.is_causal,
            signed=options.is_signed,
            center=options.center,  # type: ignore[arg-type]
        )
        return reference.run(call)

    def first(grad: Tensor, *present: Tensor) -> tuple[Tensor, ...]:
        given = Tensors(*spread(present, tensors))
        # A gradient for each sequence of the batch.
        expanded = [s.expand(grad.shape[0], -1) for s in given.scalars if s is not None]
        bias = () if given.score_bias is None else (given.score_bias,)
        gradients = Tensors(*spread(torch.func.vjp(out, *given.qkv, *expanded, *bias)[1](grad), tensors))
        of_scalars = torch.stack([s for s in gradients.scalars if s is not None])
        of_bias = gradients.score_bias if with_bias else None
        return (*gradients.qkv, of_scalars, grad.new_empty(0) if of_bias is None else of_bias)

    present = [t for t in tensors if t is not None]
    of_grad, *of_tensors = torch.func.vjp(first, grad, *present)[1](grads)
    return of_grad, *spread(of_tensors, tensors)


attention_backward.register_autograd(_double_backward, setup_context=_save_for_double_backward)
