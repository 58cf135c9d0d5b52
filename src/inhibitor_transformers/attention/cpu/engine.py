"""The CPU engine: fused C++ kernels (csrc/) that compute in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import transforms
from ..autograd import run_kernels
from ..call import AttentionCall, Masks, Options, Tensors
from ..engine import Engine, Gradients, Kernels, heads_last
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
    tensors, masks = call.tensors(), call.masks()
    if call.query.dtype == torch.bfloat16 and _is_inference(tensors, masks):
        return _forward(tensors, masks, call.options(), False)[0]
    if call.query.dtype != torch.float32:  # scalars and bias are float32 already
        q, k, v = (t.to(torch.float32) for t in tensors.qkv)
        tensors = tensors._replace(query=q, key=k, value=v)
    out = run_kernels("cpu", tensors, masks, call.options())
    return out if out.dtype == call.query.dtype else out.to(call.query.dtype)


def _is_inference(tensors: Tensors, masks: Masks) -> bool:
    """Whether the forward kernels may be called directly: they read and write bfloat16, those of gradients do not."""
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return not wanted and transforms.is_plain(*tensors, *masks)


def _forward(tensors: Tensors, masks: Masks, options: Options, saving: bool) -> tuple[Tensor, Tensor | None]:
    q, k, v = (unit_stride(t) for t in tensors.qkv)
    bias = None if tensors.score_bias is None else unit_stride(tensors.score_bias)
    out = heads_last(q, v.shape[-1])
    threads = library.threads()
    library.load().forward(pack_call((q, k, v), tensors.scalars, masks, options, out, threads=threads, score_bias=bias))
    return out, out.new_empty((0, *out.shape[:3])) if saving else None


def _backward(
    grad: Tensor, out: Tensor, saved: Tensor, tensors: Tensors, masks: Masks, options: Options, with_bias: bool
) -> Gradients:
    q, k, v = (unit_stride(t) for t in tensors.qkv)
    bias = None if tensors.score_bias is None else unit_stride(tensors.score_bias)
    grad, out = unit_stride(grad), unit_stride(out)
    gq, gk, gv = (heads_last(t, t.shape[-1]) for t in (q, k, v))
    if masks.key_padding_mask is not None:  # the kernels never touch an invalid key, nor its gradient
        gk.zero_()
        gv.zero_()
    scalars = q.new_empty((len(tensors.scalars), *q.shape[:2]))
    # Of each head, also where the heads share their bias: a head then belongs to one thread.
    of_heads = q.new_zeros((q.shape[1], *bias.shape[1:])) if bias is not None and with_bias else None
    addresses = (scalars.data_ptr(), 0 if of_heads is None else of_heads.data_ptr())
    gradients = (*tensor4(grad), *tensor4(gq), *tensor4(gk), *tensor4(gv), *addresses)
    threads = library.threads()
    library.load().backward(
        pack_call(
            (q, k, v), tensors.scalars, masks, options, out, threads=threads, score_bias=bias, gradients=gradients
        )
    )
    if given := [i for i, scalar in enumerate(tensors.scalars) if scalar is not None]:
        scalars = scalars if len(given) == len(scalars) else scalars[given]
    if of_heads is None or bias is None:
        return gq, gk, gv, scalars, None
    return gq, gk, gv, scalars, of_heads.sum(0, keepdim=True) if bias.shape[0] == 1 else of_heads


CPU = Engine(
    name="cpu",
    describe=describe,
    run=run,
    unavailable=library.unavailable,
    refuses=refuses,
    device="cpu",
    kernels=Kernels(_forward, _backward, saved=0),
)
