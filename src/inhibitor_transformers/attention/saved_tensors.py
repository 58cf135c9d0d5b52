"""Tensors that are kept for later use: whether they still are what they were."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class TensorVersions:
    """The tensors as they are now, to tell later whether what was computed from them may serve again.

    Torch counts changes in place, but not of tensors that were made in inference mode: those are never known to be the
    same. Nor does it see what is written through `tensor.data`, NumPy or another process.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._seen: list[tuple[Tensor, int, int]] | None = None
        if not any(t.is_inference() for t in tensors):
            self._seen = [(t, t._version, t.data_ptr()) for t in tensors]

    def match(self, *tensors: Tensor) -> bool:
        """Whether these are the same tensors, in the same order, unchanged."""
        if self._seen is None:
            return False
        for t, (seen, version, address) in zip(tensors, self._seen, strict=True):  # before every call: no generator
            if t is not seen or t._version != version or t.data_ptr() != address:
                return False
        return True


def save_for_backward(ctx: Any, *tensors: Tensor | None) -> None:
    """`ctx.save_for_backward`, for `saved_tensors` to check."""
    ctx.save_for_backward(*tensors)
    ctx.kinds = [_kind(t) for t in tensors]


def saved_tensors(ctx: Any) -> tuple[Any, ...]:
    """`ctx.saved_tensors`, which hooks of torch (saved_tensors_hooks) may have had in between.

    Raises RuntimeError if a hook returned another shape, dtype, device or layout: kernels would read wrong memory.
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
