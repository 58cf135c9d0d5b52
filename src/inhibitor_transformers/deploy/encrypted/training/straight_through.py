"""Integers forward, gradients of real numbers backward."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, surrogate: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def straight_through(exact: Tensor, surrogate: Tensor) -> Tensor:
    """`exact` to the last bit, with the gradient of `surrogate`, of the same shape."""
    return cast(Tensor, _StraightThrough.apply(exact.detach(), surrogate))


def round_through(x: Tensor) -> Tensor:
    """Rounded to even at halves, as numpy's rint, with the gradient of x."""
    return straight_through(torch.round(x), x)


def clip_through(x: Tensor, low: float, high: float) -> Tensor:
    """Clipped; the gradient stops outside, unless it leads back inside.

    A plain clip leaves what lies outside where it is, for ever.
    """
    return cast(Tensor, _ClipThrough.apply(x, low, high))


class _ClipThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high), gradient = ctx.saved_tensors, ctx.range, gradients[0]
        stops = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
        return gradient.masked_fill(stops, 0), None, None


def ternary(weight: Tensor, fan_in: int, threshold: float) -> Tensor:
    """−1, 0, 1 of weights (…, I, d), with the gradient of `weight`.

    Of each output the `fan_in` greatest weights above `threshold` become 1, the `fan_in` least below −threshold −1.
    """
    count = min(fan_in, weight.shape[-2])
    exact = torch.zeros_like(weight)
    for sign in (1, -1):
        values, indices = (sign * weight.detach()).topk(count, dim=-2)
        exact.scatter_add_(-2, indices, sign * (values > threshold).to(weight.dtype))
    return straight_through(exact, weight)
