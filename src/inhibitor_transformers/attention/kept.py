"""Tensors that wait for a backward pass, and are then what they were."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def keep(ctx: Any, *tensors: Tensor | None) -> None:
    """`ctx.save_for_backward`, for `kept` to take back."""
    ctx.save_for_backward(*tensors)
    ctx.kinds = [_kind(t) for t in tensors]


def kept(ctx: Any) -> tuple[Any, ...]:
    """`ctx.saved_tensors`, which hooks of torch may have had in between.

    Raises RuntimeError if a hook returned a tensor of another kind: kernels would read what is not there.
    """
    tensors: tuple[Tensor | None, ...] = ctx.saved_tensors
    for tensor, kind in zip(tensors, ctx.kinds, strict=True):
        if _kind(tensor) != kind:
            raise RuntimeError(
                f"inhibitor attention saved {_text(kind)} for its backward pass and got back {_text(_kind(tensor))}: "
                "a hook of torch.autograd.graph.saved_tensors_hooks must return what was saved"
            )
    return tensors


def _kind(t: Tensor | None) -> tuple[Any, ...] | None:
    return None if t is None else (t.shape, t.dtype, t.device, t.layout)


def _text(kind: tuple[Any, ...] | None) -> str:
    return "nothing" if kind is None else ", ".join(str(tuple(k) if k is kind[0] else k) for k in kind)
