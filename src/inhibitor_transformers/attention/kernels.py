"""What a compiled engine computes, as the operator and its derivatives ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .layout import Masks, Options, Tensors


@dataclass(frozen=True)
class Kernels:
    """What an engine computes; query, key, value in its dtypes, the scalars (H,) float32.

    `forward(tensors, masks, options, saving)` returns H in the dtype of the query, laid out as `heads_last`, and what
    its backward pass wants to have saved, `saved` numbers for each query: (saved, B, H, Nq) float32 (None where
    `saving` is False). `backward(grad, out, saved, tensors, masks, options)` returns the gradients of query, key,
    value, laid out alike, and of the scalars for each row of the batch, (4, B, H): gamma, eta, delta, length exponent.
    """

    forward: Callable[[Tensors, Masks, Options, bool], tuple[Tensor, Tensor | None]]
    backward: Callable[[Tensor, Tensor, Tensor, Tensors, Masks, Options], tuple[Tensor, Tensor, Tensor, Tensor]]
    saved: int


KERNELS: dict[str, Kernels] = {}


def register(engine: str, kernels: Kernels) -> None:
    """Make the kernels of `engine` known to the operator."""
    KERNELS[engine] = kernels
