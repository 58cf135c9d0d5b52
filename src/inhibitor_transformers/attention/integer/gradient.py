"""Results of integers, which have no derivative: who asks for one is told, instead of being given a part of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..transforms import is_transformed


def without_gradient(result: Tensor, *inputs: Tensor) -> Tensor:
    """`result`, which rounding has cut off from `inputs`; a derivative by these is a RuntimeError.

    Raises ValueError where torch.jit.trace would record a graph that has lost it.
    """
    if is_transformed(*inputs) or (torch.is_grad_enabled() and any(t.requires_grad for t in inputs)):
        if torch.jit.is_tracing():
            raise ValueError("integers have no gradient, and a trace cannot say so: trace under torch.no_grad()")
        result = _WithoutGradient.apply(result.detach(), *inputs)
    return result


class _WithoutGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(result: Tensor, *inputs: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("integers have no gradient: train the model in floating point, then quantize it")

    jvp = backward
