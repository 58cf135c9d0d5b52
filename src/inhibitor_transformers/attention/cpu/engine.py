"""The CPU engine: fused C++ kernels (csrc/) that compute in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import transforms
from ..autograd import run_kernels
from ..call import AttentionCall, Masks, Options, Tensors
from ..engine import Engine, Kernels, heads_last
from . import library
from .abi import pack_call, tensor4, unit_stride


def describe() -> str:
    """The instruction set in use, those to choose from, and whose threads run."""
    what = "fused C++ kernels in float32, CPU tensors"
    try:
        kernels = library.load()
    except library.UnavailableError:
        return what
    sets = f"instruction set {kernels.isa} of {', '.join(kernels.isas)}, integers {kernels.integer_isa}"
    return f"{what}; {sets}; threads: {kernels.threading}"


def refuses(call: AttentionCall) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    if call.query.device.type != "cpu":
        return f"it runs on CPU tensors, the query is on {call.query.device}"
    if call.query.dtype == torch.float64:
        return "it computes in float32, the query is float64"
    return transforms.refuses(*call.tensors())


def run(call: AttentionCall) -> Tensor:
    """H, (B, H, Nq, Dv), in the dtype of the query."""
    tensors = Tensors(*(t if t.dtype == torch.float32 else t.to(torch.float32) for t in call.tensors()))
    out = run_kernels("cpu", tensors, call.masks(), call.options())
    return out if out.dtype == call.query.dtype else out.to(call.query.dtype)


def _forward(tensors: Tensors, masks: Masks, options: Options, saving: bool) -> tuple[Tensor, Tensor | None]:
    q, k, v = (unit_stride(t) for t in tensors.qkv)
    out = heads_last(q, v.shape[-1])
    library.load().forward(pack_call((q, k, v), tensors.scalars, masks, options, out, threads=library.threads()))
    return out, out.new_empty((0, *out.shape[:3])) if saving else None


def _backward(
    grad: Tensor, out: Tensor, saved: Tensor, tensors: Tensors, masks: Masks, options: Options
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k, v = (unit_stride(t) for t in tensors.qkv)
    grad, out = unit_stride(grad), unit_stride(out)
    gq, gk, gv = (heads_last(t, t.shape[-1]) for t in (q, k, v))
    if masks.key_padding_mask is not None:  # the kernels never touch an invalid key, nor its gradient
        gk.zero_()
        gv.zero_()
    scalars = q.new_empty((4, *q.shape[:2]))
    gradients = (*tensor4(grad), *tensor4(gq), *tensor4(gk), *tensor4(gv), scalars.data_ptr())
    library.load().backward(
        pack_call((q, k, v), tensors.scalars, masks, options, out, threads=library.threads(), gradients=gradients)
    )
    return gq, gk, gv, scalars


CPU = Engine(
    name="cpu",
    describe=describe,
    run=run,
    unavailable=library.unavailable,
    refuses=refuses,
    device="cpu",
    kernels=Kernels(_forward, _backward, saved=0),
)
