"""Levels of a whole tensor: what 8-bit linear layers read."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
from ..cpu import is_plain

TOP = 255


def levels(x: Tensor, inverse_step: float, zero_point: int) -> Tensor:
    """clip(rint(x·inverse_step) + zero_point, 0, 255) as uint8, of the shape of x; NaN becomes 0.

    x: float32. inverse_step: rounded to float32. zero_point: in [0, 255]. The compiled kernel and plain torch agree to
    the bit.
    """
    if x.device.type != "cpu" or native.unavailable() is not None or not is_plain((x,)):
        scaled = x * torch.tensor(inverse_step, dtype=torch.float32)
        clipped = scaled.nan_to_num(nan=-float(zero_point), posinf=TOP, neginf=-TOP).clamp(
            -zero_point, TOP - zero_point
        )
        return (clipped.round() + zero_point).to(torch.uint8)
    x = x.contiguous()
    out = torch.empty(x.shape, dtype=torch.uint8)
    native.kernels().levels(x.data_ptr(), x.numel(), inverse_step, zero_point, out.data_ptr())
    return out
