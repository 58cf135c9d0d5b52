"""The operation inside torch.compile, torch.export, activation checkpointing and autocast."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from inhibitor_transformers.attention import InhibitorScalars, inhibition_scores, inhibitor_attention
from tests.attention.cases import (
    MASKS,
    Inputs,
    Shape,
    assert_close,
    chunks_of,
    masks,
    random_bools,
    random_inputs,
    weights_for,
)


def shape_of_length(length: int) -> Shape:
    return Shape(queries=length, keys=length)


def outcome(function: Any, inputs: Inputs, options: dict[str, Any]) -> list[Tensor]:
    """Output and gradients."""
    leaves = {name: t.clone().requires_grad_() for name, t in inputs.items()}
    output = function(**leaves, **options)
    return [output.detach(), *torch.autograd.grad((output * weights_for(output)).sum(), list(leaves.values()))]


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def spoil(inputs: Inputs, mask: Tensor) -> Inputs:
    """NaN in every masked key and value."""
    nowhere = ~mask[:, None, :, None]
    return inputs | {name: inputs[name].masked_fill(nowhere, math.nan) for name in ("key", "value")}


def assert_compiled_agrees_at_every_length(compiled: Any, kind: str) -> None:
    """Also with NaN in padding, and without compiling again for another length."""
    stance = "default"
    for length in (5, 9, 33):
        shape = shape_of_length(length)
        inputs, options = random_inputs(shape), masks(kind, shape)
        expected = outcome(inhibitor_attention, inputs, options)
        if "key_padding_mask" in options:
            inputs = spoil(inputs, options["key_padding_mask"])
        with torch.compiler.set_stance(stance):
            actual = outcome(compiled, inputs, options)
        for a, e in zip(actual, expected, strict=True):
            assert_close(a, e)
        stance = "fail_on_recompile"


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize(("kind", "backend"), [("no mask", "eager"), ("all masks", "aot_eager")])
def test_compiles_whole_and_once_for_all_lengths(kind: str, backend: str) -> None:
    compiled = torch.compile(inhibitor_attention, fullgraph=True, dynamic=True, backend=backend)
    assert_compiled_agrees_at_every_length(compiled, kind)


@pytest.mark.slow
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_inductor_agrees(kind: str) -> None:
    """Generated code, whose sign, min and max are not torch's own."""
    assert_compiled_agrees_at_every_length(torch.compile(inhibitor_attention, fullgraph=True, dynamic=True), kind)


@pytest.mark.usefixtures("_fresh_compiler")
def test_compiles_whole_with_the_other_options() -> None:
    compiled = torch.compile(inhibitor_attention, fullgraph=True, dynamic=True, backend="eager")
    inputs, results = random_inputs(Shape()), []
    for function in (inhibitor_attention, compiled):
        torch.manual_seed(3)
        results.append(outcome(function, inputs, {"signed": False, "center": "none", "dropout_p": 0.5}))
    for actual, wanted in zip(*results, strict=True):
        assert_close(actual, wanted)


@pytest.mark.usefixtures("_fresh_compiler")
def test_scores_compile_whole() -> None:
    compiled = torch.compile(inhibition_scores, fullgraph=True, dynamic=True, backend="eager")
    inputs = random_inputs(Shape())
    mask = random_bools(1, 2, 6)
    arguments = {"query": inputs["query"], "key": inputs["key"], "key_padding_mask": mask}
    assert_close(compiled(**arguments), inhibition_scores(**arguments))


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.scalars = InhibitorScalars(4, length_exponent=0.75)
        self.options = options

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        return inhibitor_attention(
            query, key, value, key_padding_mask=mask, **self.scalars.as_arguments(), **self.options, engine="reference"
        )


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
@pytest.mark.parametrize(("masked", "is_causal"), [(False, False), (True, True)], ids=["no mask", "padded and causal"])
def test_exports_with_dynamic_batch_and_length(masked: bool, is_causal: bool, strict: bool) -> None:
    module = Attention(is_causal=is_causal)

    def arguments(batch: int, length: int) -> tuple[Any, ...]:
        inputs = random_inputs(Shape(batch=batch, queries=length, keys=length), dtype=torch.float32)
        mask = random_bools(1, batch, length) if masked else None
        return inputs["query"], inputs["key"], inputs["value"], mask

    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=512)
    of_tensor, of_mask = {0: batch, 2: length}, {0: batch, 1: length} if masked else None
    program = torch.export.export(
        module, arguments(2, 9), dynamic_shapes=(of_tensor, of_tensor, of_tensor, of_mask), strict=strict
    )
    for size in ((2, 9), (3, 17), (5, 200)):
        torch.testing.assert_close(program.module()(*arguments(*size)), module(*arguments(*size)))


@pytest.mark.parametrize("use_reentrant", [False, True], ids=["non-reentrant", "reentrant"])
@pytest.mark.parametrize("chunk", [1, 1 << 20], ids=["row by row", "one chunk"])
def test_works_inside_activation_checkpointing(chunk: int, use_reentrant: bool) -> None:
    """With dropout: the recomputation must draw what the forward drew."""
    names = list(random_inputs(Shape()))

    def attention(*tensors: Tensor) -> Tensor:
        return inhibitor_attention(**dict(zip(names, tensors, strict=True)), dropout_p=0.5)

    def checkpointed(**inputs: Tensor) -> Tensor:
        return checkpoint(attention, *inputs.values(), use_reentrant=use_reentrant)

    def plain(**inputs: Tensor) -> Tensor:
        return attention(*inputs.values())

    results = []
    for function in (plain, checkpointed):
        torch.manual_seed(3)
        leaves = {name: t.requires_grad_() for name, t in random_inputs(Shape()).items()}
        with chunks_of(chunk):
            output = function(**leaves)
            (output * weights_for(output)).sum().backward()
        results.append([output.detach(), *(t.grad for t in leaves.values())])
    for actual, wanted in zip(*results, strict=True):
        assert torch.equal(actual, wanted)


def test_autocast_does_not_lower_what_comes_in_float32() -> None:
    inputs = random_inputs(Shape(), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = inhibitor_attention(**inputs, engine="reference")
    assert output.dtype == torch.float32
    assert torch.equal(output, inhibitor_attention(**inputs, engine="reference"))


def test_inference_mode() -> None:
    inputs = random_inputs(Shape())
    with torch.inference_mode(), chunks_of(1):
        output = inhibitor_attention(**inputs)
    assert_close(output.clone(), inhibitor_attention(**inputs))
