"""The compiled engine of integer attention (csrc/integer), as a torch operator for torch.compile and torch.export."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch import library as torch_library

from ..call import MaskedTensors, Masks, Options
from ..cpu import library
from ..cpu.abi import INTEGER_CALL, pack_call, unit_stride
from ..engine import heads_last
from ..transforms import AUTO, is_plain, is_transformed
from ..transforms import refuses as refuses_transform
from .qparams import QuantParams

# The fields of `QuantParams` that the kernels read, in the order of `IntegerCall`.
_ARRAYS = ("offset", "inverse_step", "weight", "value_inverse_step", "sign", "delta", "multiplier", "shift")


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
    """The arguments of `inhibitor::cpu_integer_forward`."""

    qkv: list[Tensor]
    qparams: list[Tensor]
    bits: int
    key_padding_mask: Tensor | None
    attn_mask: Tensor | None
    is_causal: bool
    is_signed: bool
    is_centered: bool


def run(call: MaskedTensors, qparams: QuantParams) -> Tensor:
    """H, (B, H, Nq, Dv) float32."""
    args = _integer_args(call, qparams)
    if is_plain(*args.qkv, args.key_padding_mask, args.attn_mask):
        return _run(args)
    out: Tensor = torch.ops.inhibitor.cpu_integer_forward(*args)
    return out


def integer_sums(call: MaskedTensors, qparams: QuantParams) -> Tensor:
    """A, (B, H, Nq, Dv) int32."""
    sums = torch.empty((*call.query.shape[:3], call.value.shape[-1]), dtype=torch.int32)
    _forward(_integer_args(call, qparams), call.query, sums)
    return sums


def _integer_args(call: MaskedTensors, qparams: QuantParams) -> IntegerArgs:
    qkv = [t if t.dtype == torch.float32 else t.to(torch.float32) for t in (call.query, call.key, call.value)]
    arrays = [*(getattr(qparams, name) for name in _ARRAYS), qparams.factors(call.key.shape[2])]
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
) -> Tensor:
    """H (B, H, Nq, Dv) float32 of q, k, v in float32; `qparams`: the arrays of `QuantParams`, then its factors."""
    return _run(IntegerArgs(qkv, qparams, bits, key_padding_mask, attn_mask, is_causal, is_signed, is_centered))


@cpu_integer_forward.register_fake
def _(qkv: list[Tensor], *rest: object) -> Tensor:
    query, _key, value = qkv
    return heads_last(query, value.shape[-1])


def _run(args: IntegerArgs) -> Tensor:
    query, _key, value = args.qkv
    out = heads_last(query, value.shape[-1])
    _forward(args, out, None)
    return out


def _forward(args: IntegerArgs, out: Tensor, sums: Tensor | None) -> None:
    """Writes H into `out`, or A into `sums` where that is given."""
    qkv = [unit_stride(t) for t in args.qkv]
    *arrays, factors = args.qparams
    masks = Masks(args.key_padding_mask, args.attn_mask)
    options = Options(0.0, args.is_causal, args.is_signed, "mean" if args.is_centered else "none")
    packed = pack_call(qkv, None, masks, options, out, threads=library.threads())
    packed += INTEGER_CALL.pack(
        args.bits,
        *(t.data_ptr() for t in arrays),
        *(factors.data_ptr(), factors.stride(0)),
        0 if sums is None else sums.data_ptr(),
    )
    library.load().integer_forward(packed)
