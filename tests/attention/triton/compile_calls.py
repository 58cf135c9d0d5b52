"""Run as a script, without a GPU: calls of every kind go through the launcher and Triton's own binding of arguments,
and are compiled for a GPU instead of run. The interpreter binds nothing and specializes nothing: a size of one, a
stride of one or a missing mask is a constant to the compiler.
"""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from inhibitor_transformers.attention.call import Masks, Options, Tensors
from inhibitor_transformers.attention.triton import launch
from tests.attention.engine_cases import Shape, inputs

SHAPES = {
    "usual": Shape(2, 4, 4, 64, 64, 64, 64),
    "one of each": Shape(1, 1, 1, 1, 1, 16, 16),
    "decoding": Shape(2, 4, 2, 1, 33, 16, 32),
    "one key": Shape(1, 2, 2, 5, 1, 16, 16),
    "one feature": Shape(1, 2, 1, 5, 7, 1, 1),
}
MASKS = ("none", "padding", "pairs", "causal")
CONVERTED: dict[str, Any] = {"center": "min", "normalized": True}  # calls of a converted model


def compile_instead_of_running() -> list[str]:
    """From now on launches compile; returns the list that fills with the names of what was compiled."""
    names: list[str] = []
    run = JITFunction.run

    def compiling(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        names.append(self.__name__)
        return run(self, *args, grid=grid, warmup=True, **options)

    JITFunction.run = compiling
    target = GPUTarget("cuda", 90, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: target, get_current_device=lambda: 0, get_current_stream=lambda device: 0
        )
    )
    return names


def call(
    shape: Shape,
    mask: str,
    dtype: torch.dtype,
    *,
    signed: bool,
    center: str,
    training: bool,
    bias_heads: int = 0,
    normalized: bool = False,
) -> None:
    tensors = [t.to(dtype) if name in ("query", "key", "value") else t for name, t in inputs(shape).items()]
    padding = torch.ones(shape.batch, shape.keys, dtype=torch.bool) if mask == "padding" else None
    pairs = torch.ones(shape.queries, shape.keys, dtype=torch.bool) if mask == "pairs" else None
    whole = (shape.batch, shape.heads, shape.queries, shape.keys)
    masks = Masks(padding, None if pairs is None else pairs.expand(whole))
    options = Options(64.0, mask == "causal", signed, center)
    bias = torch.zeros(bias_heads, shape.queries, shape.keys) if bias_heads else None
    scalars = [torch.ones(shape.heads) if normalized else None for _ in ("key_norm", "unit")]
    given = Tensors(*tensors, *scalars, bias)
    out, saved = launch.forward(given, masks, options, training)
    if training:
        assert saved is not None
        launch.backward(torch.ones_like(out), out, saved, given, masks, options, bias is not None)


def main() -> None:
    names = compile_instead_of_running()
    for shape, mask in itertools.product(SHAPES.values(), MASKS):
        for bias_heads in sorted({0, 1, shape.heads}):
            call(shape, mask, torch.bfloat16, signed=True, center="mean", training=True, bias_heads=bias_heads)
    for shape, mask in itertools.product(("usual", "one feature"), MASKS):
        call(SHAPES[shape], mask, torch.bfloat16, signed=True, training=True, **CONVERTED)
    call(SHAPES["usual"], "pairs", torch.bfloat16, signed=True, training=True, bias_heads=1, **CONVERTED)
    for signed, dtype in itertools.product((True, False), (torch.float32, torch.float16)):
        for options in ({"center": "mean"}, {"center": "none"}, CONVERTED):
            call(SHAPES["usual"], "padding", dtype, signed=signed, training=False, **options)
    launch.CACHE_BYTES = 0
    for options in ({"center": "mean"}, CONVERTED):
        call(SHAPES["usual"], "none", torch.bfloat16, signed=True, training=True, **options)
    print(triton.__version__, {name: names.count(name) for name in sorted(set(names))})


if __name__ == "__main__":
    sys.exit(main())
