"""The compiled engine of integer attention (csrc/integer), as a torch operator for torch.compile and torch.export."""

from __future__ import annotations

import torch
from torch import Tensor, library

from ..call import MaskedTensors
from ..cpu import library as native
from ..cpu.abi import pack_call, unit_stride
from ..layout import heads_last
from ..transforms import AUTO, is_plain, is_transformed
from ..transforms import refuses as refuses_transform
from .qparams import QuantParams

_ARRAYS = ("offset", "inverse_step", "weight", "value_inverse_step", "sign", "delta", "multiplier", "shift")


def unavailable() -> str | None:
    """Why this machine cannot run the engine; None: it can."""
    return native.unavailable()


def refuses(call: MaskedTensors) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    if call.query.device.type != "cpu":
        return f"it runs on CPU tensors, the query is on {call.query.device}"
    tensors = (call.query, call.key, call.value)
    return f"it has no rules for torch.func; {AUTO}" if is_transformed(*tensors) else refuses_transform(*tensors)


# inputs q, k, v; levels; bits; key padding mask, attention mask; causal, signed, centered
Arguments = tuple[list[Tensor], list[Tensor], int, Tensor | None, Tensor | None, bool, bool, bool]


def run(call: MaskedTensors, heads: QuantParams) -> Tensor:
    """H, (B, H, Nq, Dv) float32."""
    arguments = _arguments(call, heads)
    if is_plain(*arguments[0], arguments[3], arguments[4]):
        return _run(arguments)
    out: Tensor = torch.ops.inhibitor.cpu_integer_forward(*arguments)
    return out


def integer_sums(call: MaskedTensors, heads: QuantParams) -> Tensor:
    """A, (B, H, Nq, Dv) int32."""
    sums = torch.empty((*call.query.shape[:3], call.value.shape[-1]), dtype=torch.int32)
    _forward(_arguments(call, heads), call.query, sums)
    return sums


def _arguments(call: MaskedTensors, heads: QuantParams) -> Arguments:
    tensors = (call.query, call.key, call.value)
    inputs = [t if t.dtype == torch.float32 else t.to(torch.float32) for t in tensors]
    levels = [*(getattr(heads, name) for name in _ARRAYS), heads.factors(call.key.shape[2])]
    return inputs, levels, heads.bits, *call.masks(), call.is_causal, call.signed, call.center == "mean"


@library.custom_op("inhibitor::cpu_integer_forward", mutates_args=(), device_types="cpu")
def cpu_integer_forward(
    inputs: list[Tensor],
    levels: list[Tensor],
    bits: int,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    is_signed: bool,
    is_centered: bool,
) -> Tensor:
    """H in float32 of q, k, v in float32; `levels`: the arrays of `QuantParams`, then its factors."""
    return _run((inputs, levels, bits, key_padding_mask, attn_mask, is_causal, is_signed, is_centered))


@cpu_integer_forward.register_fake
def _(inputs: list[Tensor], *rest: object) -> Tensor:
    return heads_last(inputs[0], inputs[2].shape[-1])


def _run(arguments: Arguments) -> Tensor:
    query, _, value = arguments[0]
    out = heads_last(query, value.shape[-1])
    _forward(arguments, out, None)
    return out


def _forward(arguments: Arguments, out: Tensor, sums: Tensor | None) -> None:
    """Writes H into `out`, or A into `sums` where that is given."""
    inputs, levels, bits, key_padding_mask, attn_mask, is_causal, is_signed, is_centered = arguments
    inputs = [unit_stride(t) for t in inputs]
    *arrays, factors = levels
    integers = native.INTEGERS.pack(
        bits,
        *(t.data_ptr() for t in arrays),
        factors.data_ptr(),
        factors.stride(0),
        0 if sums is None else sums.data_ptr(),
    )
    options = (0.0, is_causal, is_signed, is_centered)
    call = pack_call(inputs, None, (key_padding_mask, attn_mask), options, out)
    native.kernels().integer_forward(call + integers)
