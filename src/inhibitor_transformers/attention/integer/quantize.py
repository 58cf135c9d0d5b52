"""Rounds floats to small integers: queries, keys and values of attention, and the inputs of 8-bit linear layers.

rint rounds ties to even; NaN becomes the smallest quantized value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..cpu import library
from ..transforms import is_plain
from .qparams import QuantParams

UINT8_QMAX = 255


def quantize_features(x: Tensor, qparams: QuantParams) -> Tensor:
    """rint(clip((x − o)·r, 0, L)) of queries or keys: (B, Hkv·g, N, D) floats to (B, Hkv·g, N, F) int64.

    g heads belong to each of the Hkv. Features that were split stand once for each of their ranges.
    """
    groups = x.shape[1] // qparams.offset.shape[0]
    offset = qparams.offset.repeat_interleave(groups, 0)[:, None, :]
    inverse = qparams.inverse_step.repeat_interleave(groups)[:, None, None]
    x = x.float()
    if qparams.source.shape[1]:
        source = qparams.source.long().repeat_interleave(groups, 0)[:, None, :]
        x = torch.cat([x, x.gather(-1, source.expand(*x.shape[:1], -1, x.shape[2], -1))], -1)
    return _round((x - offset) * inverse, 0, qparams.qmax).to(torch.int64)


def quantize_values(value: Tensor, qparams: QuantParams) -> Tensor:
    """rint(clip(v·rᵥ, −Lᵥ, Lᵥ)) of (B, Hkv, N, Dv) floats as (B, H, N, Dv) int64, each query head with its own step."""
    groups = qparams.value_inverse_step.shape[0] // value.shape[1]
    scaled = value.float().repeat_interleave(groups, 1) * qparams.value_inverse_step[:, None, None]
    return _round(scaled, -qparams.value_qmax, qparams.value_qmax).to(torch.int64)


def quantize_uint8(x: Tensor, inverse_step: Tensor, zero_point: int) -> Tensor:
    """clip(rint(x·inverse_step) + zero_point, 0, 255) of a linear layer's input; compiled, or bit-exact in plain torch.

    Args:
        x: (…, features) float32.
        inverse_step: (features,) float32, contiguous.
        zero_point: in [0, 255].

    Returns:
        (…, features) uint8.
    """
    if x.device.type != "cpu" or library.unavailable() is not None or not is_plain(x):
        rounded = _round(x * inverse_step, -zero_point, UINT8_QMAX - zero_point)
        return (rounded + zero_point).to(torch.uint8)
    x = x.contiguous()
    out = x.new_empty(x.shape, dtype=torch.uint8)
    features = inverse_step.shape[0]
    rows = x.numel() // max(features, 1)
    library.load().quantize_uint8(x.data_ptr(), rows, features, inverse_step.data_ptr(), zero_point, out.data_ptr())
    return out


def _round(x: Tensor, low: int, high: int) -> Tensor:
    """Clipped and rounded, in the dtype of x."""
    return x.nan_to_num(nan=float(low), posinf=float(high), neginf=float(low)).clamp(low, high).round()
