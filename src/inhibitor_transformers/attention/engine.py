"""What an engine is: one implementation of the operation, and the kernels of a compiled one.

An engine is added in one place: describe it by an `Engine` and hand it to `dispatch.register_engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .call import AttentionCall, Masks, Options, Tensors

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]  # q, k, v, scalars, bias: see `Kernels`


@dataclass(frozen=True)
class Kernels:
    """The forward and backward pass of a compiled engine, behind one torch operator (custom_op.py, autograd.py).

    `forward(tensors, masks, options, saving)` gets q, k, v in a dtype of the engine's choice, scalars (H,) and bias in
    float32. It returns H (B, H, Nq, Dv) in the dtype of the query, in the memory layout of `heads_last`, and what its
    backward pass reads: `saved` numbers per query, (saved, B, H, Nq) float32; None where `saving` is False.

    `backward(grad, out, saved, tensors, masks, options, with_bias)` returns the gradients of query, key and value, in
    the same layout; those of the scalars that are given for each sequence of the batch, (scalars, B, H) float32;
    and with_bias that of the bias, summed over the batch, in its shape in float32, else None.
    """

    forward: Callable[[Tensors, Masks, Options, bool], tuple[Tensor, Tensor | None]]
    backward: Callable[[Tensor, Tensor, Tensor, Tensors, Masks, Options, bool], Gradients]
    saved: int


@dataclass(frozen=True)
class Engine:
    """One implementation of the operation.

    name: what `engine=` and INHIBITOR_ENGINE call it.
    describe: what runs here, for `inhibit env`.
    run: H, (B, H, Nq, Dv) in the dtype of the query. Compiled engines use `autograd.run_kernels`.
    unavailable: why this machine cannot run it; None: it can. Called before every call, so cheap.
    refuses: why it cannot serve this call; None: it can. Cheap as well.
    device: the type of the tensors' device for which "auto" takes it, and says so where it would and cannot; None: any.
    kernels: those of a compiled engine.
    """

    name: str
    describe: Callable[[], str]
    run: Callable[[AttentionCall], Tensor]
    unavailable: Callable[[], str | None]
    refuses: Callable[[AttentionCall], str | None]
    device: str | None = None
    kernels: Kernels | None = None

    def suits(self, call: AttentionCall) -> bool:
        """Whether "auto" may take it."""
        return self.device in (None, call.query.device.type)


KERNELS: dict[str, Kernels] = {}  # by the name of the engine, which is an argument of the operator


def heads_last(like: Tensor, features: int, dtype: torch.dtype | None = None) -> Tensor:
    """An empty (B, H, N, features) in the memory order (B, N, H, features): merging heads copies nothing.

    In the dtype of `like` if none is given.
    """
    batch, heads, rows, _ = like.shape
    strides = (rows * heads * features, features, heads * features, 1)
    return like.new_empty_strided((batch, heads, rows, features), strides, dtype=dtype)
