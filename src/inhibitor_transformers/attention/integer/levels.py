"""Levels of a whole tensor: what 8-bit linear layers read."""

from __future__ import annotations

from torch import Tensor, uint8

from ..cpu import library as native
from ..transforms import is_plain

TOP = 255


def levels(x: Tensor, inverse_step: Tensor, zero_point: int) -> Tensor:
    """clip(rint(x·inverse_step) + zero_point, 0, 255) as uint8, of the shape of x; NaN becomes 0.

    x: (…, features) float32. inverse_step: (features,) float32, contiguous. zero_point: in [0, 255]. The compiled
    kernel and plain torch agree to the bit.
    """
    if x.device.type != "cpu" or native.unavailable() is not None or not is_plain(x):
        low, high = -float(zero_point), float(TOP - zero_point)
        clipped = (x * inverse_step).nan_to_num(nan=low, posinf=high, neginf=low).clamp(low, high)
        return (clipped.round() + zero_point).to(uint8)
    x = x.contiguous()
    out = x.new_empty(x.shape, dtype=uint8)
    features = inverse_step.shape[0]
    pointers = (inverse_step.data_ptr(), zero_point, out.data_ptr())
    native.kernels().levels(x.data_ptr(), x.numel() // max(features, 1), features, *pointers)
    return out
