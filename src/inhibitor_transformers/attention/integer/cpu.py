"""The compiled engine of integer attention (csrc/integer)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
from ..call import MaskedTensors
from ..native_call import heads_last, pack_call, unit_stride
from .heads import IntegerHeads

_ARRAYS = ("offset", "inverse_step", "weight", "value_inverse_step", "sign", "delta", "multiplier", "shift")


def unavailable() -> str | None:
    """Why this machine cannot run the engine; None: it can."""
    return native.unavailable()


def refuses(call: MaskedTensors) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    return None if call.query.device.type == "cpu" else f"it runs on CPU tensors, the query is on {call.query.device}"


def run(call: MaskedTensors, heads: IntegerHeads) -> Tensor:
    """H, (B, H, Nq, Dv) float32."""
    inputs = _float32(call)
    out = heads_last(inputs[0], inputs[2].shape[-1])
    _forward(call, inputs, heads, out, None)
    return out


def integer_sums(call: MaskedTensors, heads: IntegerHeads) -> Tensor:
    """A, (B, H, Nq, Dv) int32."""
    inputs = _float32(call)
    sums = torch.empty((*call.query.shape[:3], inputs[2].shape[-1]), dtype=torch.int32)
    _forward(call, inputs, heads, inputs[0], sums)
    return sums


def _float32(call: MaskedTensors) -> list[Tensor]:
    tensors = (call.query, call.key, call.value)
    return [unit_stride(t if t.dtype == torch.float32 else t.to(torch.float32)) for t in tensors]


def _forward(call: MaskedTensors, inputs: list[Tensor], heads: IntegerHeads, out: Tensor, sums: Tensor | None) -> None:
    factors = heads.factors(call.key.shape[2])
    masks = (call.key_padding_mask, call.attn_mask)
    options = (0.0, call.is_causal, call.signed, call.center == "mean")
    integers = native.INTEGERS.pack(
        heads.bits,
        *(getattr(heads, name).data_ptr() for name in _ARRAYS),
        factors.data_ptr(),
        factors.stride(0),
        0 if sums is None else sums.data_ptr(),
    )
    native.kernels().integer_forward(pack_call(inputs, None, masks, options, out) + integers)
