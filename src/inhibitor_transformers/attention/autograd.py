"""Runs the kernels of a compiled engine, and their derivatives: directly, as a torch operator, or under torch.func."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .call import Masks, Options, Tensors, spread
from .custom_op import CallArgs, second_gradients
from .engine import KERNELS
from .saved_tensors import save_for_backward, saved_tensors
from .transforms import is_plain, is_transformed


def run_kernels(engine: str, tensors: Tensors, masks: Masks, options: Options) -> Tensor:
    """H, (B, H, Nq, Dv), by the kernels of `engine`; through the operator where operators are recorded or transformed.

    Plain eager calls skip torch's dispatcher: for a short sentence it takes longer than the attention.
    """
    out: Tensor
    if is_plain(*tensors, *masks):
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            out = _Attention.apply(*tensors, *masks, options, engine)
        else:
            out, _ = KERNELS[engine].forward(tensors, masks, options, False)
    elif is_transformed(*tensors):
        out, _ = _TransformedAttention.apply(*tensors, *masks, *options, engine)
    else:
        out, _ = torch.ops.inhibitor.attention(*tensors, *masks, *options, engine)
    return out


_is_batched = torch._C._functorch.is_legacy_batchedtensor  # by torch.autograd.grad(…, is_grads_batched=True)


class _Attention(torch.autograd.Function):
    """The operator without its dispatcher."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *tensors, key_padding_mask, attn_mask, options, engine = args
        masks = Masks(key_padding_mask, attn_mask)
        out, saved = KERNELS[engine].forward(Tensors(*tensors), masks, options, True)
        save_for_backward(ctx, out, saved, *tensors, *masks)
        ctx.options, ctx.engine = options, engine
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        given = (grad, *saved_tensors(ctx))
        needed = Tensors(*ctx.needs_input_grad[:-4])
        with_bias = bool(needed.score_bias)
        if is_transformed(*given):
            gq, gk, gv, scalars, bias = _TransformedGradients.apply(*given, *ctx.options, ctx.engine, with_bias)
        elif torch.is_grad_enabled() or not is_plain(*given) or _is_batched(grad):  # the operator bears all of this
            gradients = torch.ops.inhibitor.attention_backward(*given, *ctx.options, ctx.engine, with_bias)
            gq, gk, gv, scalars, bias = gradients
        else:
            _, out, saved, *tensors, key_padding_mask, attn_mask = given
            masks = Masks(key_padding_mask, attn_mask)
            gq, gk, gv, scalars, bias = KERNELS[ctx.engine].backward(
                grad, out, saved, Tensors(*tensors), masks, ctx.options, with_bias
            )
        of_scalars = scalars.sum(1).unbind(0) if any(needed.scalars) else (None,) * len(scalars)
        per_head = spread(of_scalars, Tensors(*given[3:-2]).scalars)
        return (gq, gk, gv, *per_head, bias if with_bias else None, None, None, None, None)


class _TransformedAttention(torch.autograd.Function):
    """The operator under torch.func, with its arguments (`CallArgs`) and results."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return tuple(torch.ops.inhibitor.attention(*args))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        out, saved = output
        args = CallArgs(*inputs)
        ctx.mark_non_differentiable(saved)
        save_for_backward(ctx, out, saved, *args.tensors, *args.masks)
        ctx.options, ctx.engine = args.options, args.engine

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _grad_of_saved: Tensor) -> tuple[Any, ...]:
        given = (grad, *saved_tensors(ctx))
        with_bias = bool(CallArgs(*ctx.needs_input_grad).score_bias)
        gq, gk, gv, scalars, bias = _TransformedGradients.apply(*given, *ctx.options, ctx.engine, with_bias)
        per_head = spread(scalars.sum(1).unbind(0), Tensors(*given[3:-2]).scalars)
        return (gq, gk, gv, *per_head, bias if with_bias else None, *(None,) * 7)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return _vmap_into_batch(_TransformedAttention, info.batch_size, in_dims, args, _BATCH_DIMS, (0, 1))


class _TransformedGradients(torch.autograd.Function):
    """The backward operator under torch.func: grad, out, saved, `CallArgs` and with_bias, and its results."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return tuple(torch.ops.inhibitor.attention_backward(*args))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        grad, _out, _saved, *rest, with_bias = inputs
        args = CallArgs(*rest)
        save_for_backward(ctx, grad, *args.tensors, *args.masks)
        ctx.options, ctx.with_bias = args.options, with_bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad, *tensors, key_padding_mask, attn_mask = saved_tensors(ctx)
        masks = Masks(key_padding_mask, attn_mask)
        grad_of_grad, *tensor_grads = second_gradients(
            grads, grad, Tensors(*tensors), masks, ctx.options, ctx.with_bias
        )
        return (grad_of_grad, None, None, *tensor_grads, *(None,) * 8)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        raise NotImplementedError(
            "compiled engines have no forward-mode derivatives of their gradients: where the tangents are known only "
            "after the forward pass, call inhibitor_attention with engine='reference'"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        dims = (0, 0, 1, *_BATCH_DIMS, None)
        apart = bool(args[-1])  # the gradient of the bias is summed over the batch: it would be over all calls
        return _vmap_into_batch(_TransformedGradients, info.batch_size, in_dims, args, dims, (0, 0, 0, 1, 0), apart)


# The batch dimension of each argument of the operator: q, k, v; scalars and bias; masks; options and engine.
_BATCH_DIMS: tuple[int | None, ...] = (*(0, 0, 0), *(None,) * 7, *(0, 0), *(None,) * 5)


def _vmap_into_batch(
    function: Any,
    calls: int,
    in_dims: tuple[int | None, ...],
    args: tuple[Any, ...],
    batch_dims: tuple[int | None, ...],
    out_batch_dims: tuple[int, ...],
    apart: bool = False,
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """A vmap rule: all calls become one, whose batch holds theirs one after the other.

    `batch_dims` and `out_batch_dims`: the batch dimension of each argument and result. Where vmap runs over scalars or
    bias, which a batch has in common, or with `apart`, one call follows the other.
    """
    given = list(zip(args, in_dims, batch_dims, strict=True))
    if apart or any(dim is not None and batch is None for _, dim, batch in given):
        each = [function.apply(*(a if dim is None else a.select(dim, i) for a, dim, _ in given)) for i in range(calls)]
        return tuple(torch.stack(out) for out in zip(*each, strict=True)), (0,) * len(out_batch_dims)
    merged = function.apply(*(a if a is None or to is None else _merge(a, dim, to, calls) for a, dim, to in given))
    outs = zip(merged, out_batch_dims, strict=True)
    return tuple(out.unflatten(to, (calls, out.shape[to] // calls)) for out, to in outs), out_batch_dims


def _merge(t: Tensor, dim: int | None, to: int, calls: int) -> Tensor:
    """Move the calls along `dim` (None: one tensor for all) into dimension `to` of a single call."""
    stacked = t.expand(calls, *t.shape) if dim is None else t.movedim(dim, 0)
    return stacked.movedim(0, to).flatten(to, to + 1)
