"""Whether tensors still hold what was read of them, so that what was made of it may serve again."""

from __future__ import annotations

from torch import Tensor


class Versions:
    """Tensors as they are when this is made.

    Torch counts what is done to a tensor in place, though not to one that was made in inference mode: such a tensor is
    never known to be the same. Nor does it see what is written through `tensor.data`, NumPy or another process.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._seen: list[tuple[Tensor, int, int]] | None = None
        if not any(t.is_inference() for t in tensors):
            self._seen = [(t, t._version, t.data_ptr()) for t in tensors]

    def are_of(self, *tensors: Tensor) -> bool:
        """Whether these are the same tensors, in the same order, unchanged."""
        if self._seen is None:
            return False
        for t, (seen, version, address) in zip(tensors, self._seen, strict=True):  # before every call: no generator
            if t is not seen or t._version != version or t.data_ptr() != address:
                return False
        return True
