"""How a call reaches the kernels, and its derivatives: directly, as an operator, or under torch.func."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .custom_op import second_gradients
from .kept import keep, kept
from .kernels import KERNELS
from .layout import Masks, Options, Tensors
from .transforms import is_plain, is_transformed


def apply(engine: str, tensors: Tensors, masks: Masks, options: Options) -> Tensor:
    """H by the kernels of `engine`; by the operator where somebody watches or transforms operators.

    Plain eager calls skip the dispatcher: for a short sentence it takes longer than the attention.
    """
    out: Tensor
    if is_plain(*tensors, *masks):
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
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
        *arguments, options, engine = args
        out, for_gradients = KERNELS[engine].forward(tuple(arguments[:7]), tuple(arguments[7:]), options, True)
        keep(ctx, out, for_gradients, *arguments)
        ctx.options, ctx.engine = options, engine
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        given = (grad, *kept(ctx))
        if is_transformed(*given):
            *gradients, scalars = _TransformedGradients.apply(*given, *ctx.options, ctx.engine)
        elif torch.is_grad_enabled() or not is_plain(*given) or _is_batched(grad):  # the operator bears all of this
            *gradients, scalars = torch.ops.inhibitor.attention_backward(*given, *ctx.options, ctx.engine)
        else:
            _, out, for_gradients, *tensors, key_padding_mask, attn_mask = given
            *gradients, scalars = KERNELS[ctx.engine].backward(
                grad, out, for_gradients, tuple(tensors), (key_padding_mask, attn_mask), ctx.options
            )
        per_head = scalars.sum(1).unbind(0) if any(ctx.needs_input_grad[3:7]) else (None,) * 4
        return (*gradients, *per_head, None, None, None, None)


class _TransformedAttention(torch.autograd.Function):
    """The operator under torch.func, with its arguments and results."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return tuple(torch.ops.inhibitor.attention(*args))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        keep(ctx, *output, *inputs[:9])
        ctx.options = inputs[9:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _grad_of_saved: Tensor) -> tuple[Any, ...]:
        *gradients, scalars = _TransformedGradients.apply(grad, *kept(ctx), *ctx.options)
        return (*gradients, *scalars.sum(1).unbind(0), *(None,) * 7)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return _as_rows(_TransformedAttention, info.batch_size, in_dims, args, _ROWS, (0, 1))


class _TransformedGradients(torch.autograd.Function):
    """The operator's gradient under torch.func, with its arguments and results."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return tuple(torch.ops.inhibitor.attention_backward(*args))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        keep(ctx, inputs[0], *inputs[3:12])
        ctx.options = inputs[12:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad, *tensors, key_padding_mask, attn_mask = kept(ctx)
        second = second_gradients(grads, grad, tuple(tensors), (key_padding_mask, attn_mask), ctx.options[:4])
        return (second[0], None, None, *second[1:], *(None,) * 7)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        raise NotImplementedError(
            "compiled engines have no forward-mode derivatives of their gradients: where the tangents are known only "
            "after the forward pass, call inhibitor_attention with engine='reference'"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return _as_rows(_TransformedGradients, info.batch_size, in_dims, args, (0, 0, 1, *_ROWS), (0, 0, 0, 1))


# Arguments of the operator: the dimension that counts the rows of the batch.
_ROWS = (0, 0, 0, None, None, None, None, 0, 0, None, None, None, None, None)


def _as_rows(
    function: Any,
    calls: int,
    in_dims: tuple[int | None, ...],
    args: tuple[Any, ...],
    rows: tuple[int | None, ...],
    out_rows: tuple[int, ...],
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """A rule of vmap: as many calls become one, with as many times the rows in its batch.

    `rows` and `out_rows` say which dimension of each argument and result counts them. Where vmap runs over the
    scalars, which a batch has in common, one call follows the other.
    """
    given = list(zip(args, in_dims, rows, strict=True))
    if any(dim is not None and row is None for _, dim, row in given):
        each = [function.apply(*(a if dim is None else a.select(dim, i) for a, dim, _ in given)) for i in range(calls)]
        return tuple(torch.stack(out) for out in zip(*each, strict=True)), (0,) * len(out_rows)
    merged = function.apply(*(a if a is None or row is None else _merge(a, dim, row, calls) for a, dim, row in given))
    outs = zip(merged, out_rows, strict=True)
    return tuple(out.unflatten(row, (calls, out.shape[row] // calls)) for out, row in outs), out_rows


def _merge(t: Tensor, dim: int | None, row: int, calls: int) -> Tensor:
    """The calls along `dim` (None: one tensor for all) put one after the other along dimension `row` of a call."""
    stacked = t.expand(calls, *t.shape) if dim is None else t.movedim(dim, 0)
    return stacked.movedim(0, row).flatten(row, row + 1)
