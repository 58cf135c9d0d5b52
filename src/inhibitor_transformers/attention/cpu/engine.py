"""The compiled CPU engine: how it serves a call. It computes in float32; the kernels are those of csrc/."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import autograd, transforms
from ..call import AttentionCall
from ..kernels import Kernels, register
from ..layout import Masks, Options, Tensors, heads_last
from . import library as native
from .abi import pack_call, pointer, unit_stride


def unavailable() -> str | None:
    """Why this machine cannot run the engine; None: it can."""
    return native.unavailable()


def describe() -> str:
    """The instruction set in use, those to choose from, and whose threads run."""
    what = "fused C++ kernels in float32, CPU tensors"
    try:
        library = native.kernels()
    except native.UnavailableError:
        return what
    sets = f"instruction set {library.isa} of {', '.join(library.isas)}, integers {library.integer_isa}"
    return f"{what}; {sets}; threads: {library.threading}"


def refuses(call: AttentionCall) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    if call.query.device.type != "cpu":
        return f"it runs on CPU tensors, the query is on {call.query.device}"
    if call.query.dtype == torch.float64:
        return "it computes in float32, the query is float64"
    return transforms.refuses(*call.tensors())


def run(call: AttentionCall) -> Tensor:
    """The context H, (B, H, Nq, Dv), in the dtype of the query."""
    tensors = tuple(t if t.dtype == torch.float32 else t.to(torch.float32) for t in call.tensors())
    out = autograd.apply("cpu", tensors, call.masks(), call.options())
    return out if out.dtype == call.query.dtype else out.to(call.query.dtype)


def _forward(tensors: Tensors, masks: Masks, options: Options, saving: bool) -> tuple[Tensor, Tensor | None]:
    inputs = [unit_stride(t) for t in tensors[:3]]
    out = heads_last(inputs[0], inputs[2].shape[-1])
    native.kernels().forward(pack_call(inputs, tensors[3:], masks, options, out))
    return out, out.new_empty((0, *out.shape[:3])) if saving else None


def _backward(
    grad: Tensor, out: Tensor, saved: Tensor, tensors: Tensors, masks: Masks, options: Options
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs = [unit_stride(t) for t in tensors[:3]]
    grad, out = unit_stride(grad), unit_stride(out)
    gq, gk, gv = (heads_last(t, t.shape[-1]) for t in inputs)
    if masks[0] is not None:  # the kernels never touch an invalid key, nor its gradient
        gk.zero_()
        gv.zero_()
    scalars = inputs[0].new_empty((4, *inputs[0].shape[:2]))
    outputs = (*pointer(grad), *pointer(gq), *pointer(gk), *pointer(gv), scalars.data_ptr())
    native.kernels().backward(pack_call(inputs, tensors[3:], masks, options, out, outputs))
    return gq, gk, gv, scalars


register("cpu", Kernels(_forward, _backward, saved=0))
