"""The GPU engine: where the Triton kernels run, and how they serve a call. Importing this does not need Triton."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

from ..autograd import run_kernels
from ..call import AttentionCall, Masks, Options, Tensors
from ..engine import Engine, Gradients, Kernels
from ..transforms import constant_when_compiled
from ..transforms import refuses as refuses_transform

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_DIM = 256  # a row's sums stay in registers
INTERPRETER_VARIABLE = "TRITON_INTERPRET"  # Triton's own: "1" before the kernels are first used


def is_interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter, on tensors of any device: for tests, and very slow."""
    return os.environ.get(INTERPRETER_VARIABLE) == "1"


@constant_when_compiled
def unavailable() -> str | None:
    """Why this machine cannot run the engine; None: it can."""
    return _unavailable()


@cache
def _unavailable() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (wheels of torch for CUDA and ROCm bring it)"
    if is_interpreted():
        return None
    if not torch.cuda.is_available():  # Triton can be installed where there is no driver
        return "torch sees no CUDA or ROCm device"
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
    except Exception as error:  # whatever a broken installation raises
        return f"Triton cannot use the device: {type(error).__name__}: {error}"
    return None


def describe() -> str:
    """What the kernels compute, and on which device."""
    what = "fused Triton kernels, float32 arithmetic, CUDA and ROCm tensors"
    if unavailable() is not None:
        return what
    return f"{what}; {'in the interpreter' if is_interpreted() else torch.cuda.get_device_name()}"


def refuses(call: AttentionCall) -> str | None:
    """Why the engine cannot serve this call; None: it can."""
    query, value = call.query, call.value
    if query.device.type != "cuda" and not is_interpreted():
        return f"it runs on CUDA and ROCm tensors, the query is on {query.device}"
    if query.dtype not in DTYPES:
        return f"it computes in float32, the query is {str(query.dtype).removeprefix('torch.')}"
    if max(query.shape[-1], value.shape[-1]) > LARGEST_DIM:
        return f"heads may have {LARGEST_DIM} features, query and value have {query.shape[-1]} and {value.shape[-1]}"
    return refuses_transform(*call.tensors())


def run(call: AttentionCall) -> Tensor:
    """H, (B, H, Nq, Dv), in the dtype of the query."""
    return run_kernels("triton", call.tensors(), call.masks(), call.options())


def _forward(tensors: Tensors, masks: Masks, options: Options, saving: bool) -> tuple[Tensor, Tensor | None]:
    from . import launch  # needs Triton

    return launch.forward(tensors, masks, options, saving)


def _backward(
    grad: Tensor, out: Tensor, saved: Tensor, tensors: Tensors, masks: Masks, options: Options, with_bias: bool
) -> Gradients:
    from . import launch

    return launch.backward(grad, out, saved.contiguous(), tensors, masks, options, with_bias)


TRITON = Engine(
    name="triton",
    describe=describe,
    run=run,
    unavailable=unavailable,
    refuses=refuses,
    device="cuda",  # torch's name for ROCm devices too
    kernels=Kernels(_forward, _backward, saved=6),  # launch.SAVED
)
