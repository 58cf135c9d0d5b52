"""The compiled engine of integer attention (csrc/integer), as a torch operator for torch.compile and torch.export."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch import library as torch_library

from ..call import MaskedTensors, Masks, Options
from ..cpu import library
from ..cpu.abi import INTEGER_CALL, pack_call, tensor4, unit_stride
from ..engine import heads_last
from ..transforms import AUTO, is_plain, is_transformed
from ..transforms import refuses as refuses_transform
from .qparams import BITS, QuantParams
from .requantize import Requantize

SERVES = BITS

# The fields of `QuantParams` that the kernels read, in the order of `InhibitorIntegerCall`.
_ARRAYS = ("offset", "source", "inverse_step", "value_inverse_step", "sign", "delta", "shift")


def unavailable() -> str | None:
    """Why this machine cannot run the engine; None: it can."""
    return library.unavailable()


def refuses(call: MaskedTensors) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    if call.query.device.type != "cpu":
        return f"it runs on CPU tensors, the query is on {call.query.device}"
    tensors = (call.query, call.key, call.value)
    return f"it has no rules for torch.func; {AUTO}" if is_transformed(*tensors) else refuses_transform(*tensors)


class IntegerArgs(NamedTuple):
    """What both operators take; `qparams`: the arrays of `QuantParams` that the kernels read."""

    qkv: list[Tensor]
    qparams: list[Tensor]
    bits: int
    key_padding_mask: Tensor | None
    attn_mask: Tensor | None
    is_causal: bool
    is_signed: bool
    is_centered: bool


class OutputArgs(NamedTuple):
    """What `inhibitor::cpu_integer_requantized` takes besides: `Requantize`, its multipliers as a table."""

    multiplier: Tensor
    shift: Tensor
    zero_point: int
    qmax: int


def run(call: MaskedTensors, qparams: QuantParams) -> Tensor:
    """H, (B, H, Nq, Dv) float32."""
    args, factors = _integer_args(call, qparams), qparams.factors(call.key.shape[2])
    if is_plain(*args.qkv, args.key_padding_mask, args.attn_mask):
        return _run(args, factors)
    out: Tensor = torch.ops.inhibitor.cpu_integer_forward(*args, factors)
    return out


def run_requantized(call: MaskedTensors, qparams: QuantParams, requantize: Requantize) -> Tensor:
    """Y, (B, H, Nq, Dv) uint8."""
    args = _integer_args(call, qparams)
    multiplier = requantize.multipliers(call.key.shape[2])
    output = OutputArgs(multiplier, requantize.shift, requantize.zero_point, requantize.qmax)
    if is_plain(*args.qkv, args.key_padding_mask, args.attn_mask):
        return _run_requantized(args, output)
    out: Tensor = torch.ops.inhibitor.cpu_integer_requantized(*args, *output)
    return out


def integer_sums(call: MaskedTensors, qparams: QuantParams) -> Tensor:
    """A, (B, H, Nq, Dv) int32."""
    sums = torch.empty((*call.query.shape[:3], call.value.shape[-1]), dtype=torch.int32)
    _forward(_integer_args(call, qparams), sums=sums)
    return sums


def _integer_args(call: MaskedTensors, qparams: QuantParams) -> IntegerArgs:
    qkv = [t if t.dtype == torch.float32 else t.to(torch.float32) for t in (call.query, call.key, call.value)]
    arrays = [getattr(qparams, name) for name in _ARRAYS]
    return IntegerArgs(qkv, arrays, qparams.bits, *call.masks(), call.is_causal, call.signed, call.center == "mean")


@torch_library.custom_op("inhibitor::cpu_integer_forward", mutates_args=(), device_types="cpu")
def cpu_integer_forward(
    qkv: list[Tensor],
    qparams: list[Tensor],
    bits: int,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    is_signed: bool,
    is_centered: bool,
    factors: Tensor,
) -> Tensor:
    """H (B, H, Nq, Dv) float32 of q, k, v in float32."""
    args = IntegerArgs(qkv, qparams, bits, key_padding_mask, attn_mask, is_causal, is_signed, is_centered)
    return _run(args, factors)


@torch_library.custom_op("inhibitor::cpu_integer_requantized", mutates_args=(), device_types="cpu")
def cpu_integer_requantized(
    qkv: list[Tensor],
    qparams: list[Tensor],
    bits: int,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    is_signed: bool,
    is_centered: bool,
    multiplier: Tensor,
    shift: Tensor,
    zero_point: int,
    qmax: int,
) -> Tensor:
    """Y (B, H, Nq, Dv) uint8 of q, k, v in float32."""
    args = IntegerArgs(qkv, qparams, bits, key_padding_mask, attn_mask, is_causal, is_signed, is_centered)
    return _run_requantized(args, OutputArgs(multiplier, shift, zero_point, qmax))


@cpu_integer_forward.register_fake
def _(qkv: list[Tensor], *rest: object) -> Tensor:
    return _output(qkv, torch.float32)


@cpu_integer_requantized.register_fake
def _(qkv: list[Tensor], *rest: object) -> Tensor:
    return _output(qkv, torch.uint8)


def _output(qkv: list[Tensor], dtype: torch.dtype) -> Tensor:
    query, _key, value = qkv
    return heads_last(query, value.shape[-1], dtype)


def _run(args: IntegerArgs, factors: Tensor) -> Tensor:
    out = _output(args.qkv, torch.float32)
    _forward(args, out=out, factors=factors)
    return out


def _run_requantized(args: IntegerArgs, output: OutputArgs) -> Tensor:
    levels = _output(args.qkv, torch.uint8)
    _forward(args, levels=levels, output=output)
    return levels


def _forward(
    args: IntegerArgs,
    *,
    out: Tensor | None = None,
    factors: Tensor | None = None,
    sums: Tensor | None = None,
    levels: Tensor | None = None,
    output: OutputArgs | None = None,
) -> None:
    """Writes H into `out` by way of `factors`, or A into `sums`, or Y into `levels` by way of `output`."""
    qkv = [unit_stride(t) for t in args.qkv]
    masks = Masks(args.key_padding_mask, args.attn_mask)
    options = Options(0.0, args.is_causal, args.is_signed, "mean" if args.is_centered else "none")
    packed = pack_call(qkv, None, masks, options, qkv[0] if out is None else out, threads=library.threads())
    packed += INTEGER_CALL.pack(
        args.bits,
        *(t.data_ptr() for t in args.qparams),
        args.qparams[1].shape[1],  # features that were split off
        *((0, 0) if factors is None else (factors.data_ptr(), factors.stride(0))),
        0 if sums is None else sums.data_ptr(),
        *((0,) * 4 if levels is None else tensor4(levels)),
        *((0,) * 5 if output is None else _requantization(output)),
        *(0,) * 13,  # float32 inputs
    )
    library.load().integer_forward(packed)


def _requantization(output: OutputArgs) -> tuple[int, ...]:
    multiplier = output.multiplier
    return multiplier.data_ptr(), multiplier.stride(0), output.shift.data_ptr(), output.zero_point, output.qmax
