"""ONNX Runtime's integer operators are the integer reference, with the library and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.deploy.runtimes import onnxruntime_operator
from tests.attention.engine_cases import Shape, instruction_set
from tests.deploy.export.cases import NO_ONNX
from tests.deploy.runtimes.integer_cases import (
    OPTIONS,
    SHAPES,
    IntegerCase,
    Options,
    graph,
    integer_case,
    qlinear_case,
    tensors_of,
)

onnx = pytest.importorskip("onnx", reason=NO_ONNX)
onnxruntime = pytest.importorskip("onnxruntime", reason=NO_ONNX)
SMALL = Shape(2, 4, 4, 5, 6, 3, 4)
needs_library = pytest.mark.skipif(library.unavailable() is not None, reason="needs the compiled kernels")


def run(case: IntegerCase, *, model: Any = None, with_library: bool = True, threads: int = 1) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    if with_library:
        onnxruntime_operator.register(options)
    session = onnxruntime.InferenceSession(model or graph(case), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: t.numpy() for name, t in tensors_of(case).items()})[0])


def with_function(case: IntegerCase) -> bytes:
    """The same node with the function that exported files carry."""
    import onnx_ir

    from inhibitor_transformers.deploy.export.onnx_attention import add_function

    model = onnx_ir.from_proto(onnx.load_from_string(graph(case)))
    add_function(model)
    return onnx_ir.to_proto(model).SerializeToString()


@needs_library
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [*OPTIONS, Options(16, extra=1)], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, Shape(2, 4, 2, 9, 11, 3, 6)], ids=str)
def test_floats_in_and_out(shape: Shape, options: Options, masked: bool) -> None:
    case = integer_case(shape, options, masked=masked)
    assert torch.equal(run(case), case.expected)


@needs_library
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bytes_in_and_out(shape: Shape, options: Options, masked: bool, packed: bool) -> None:
    shape = replace(shape, queries=shape.keys) if packed else shape
    case = qlinear_case(shape, options, masked=masked, packed=packed)
    for isa in library.load().isas:
        with instruction_set(isa):
            assert torch.equal(run(case), case.expected), isa


@pytest.mark.parametrize("options", [o for o in [*OPTIONS, Options(16, extra=1)] if not o.is_causal], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_the_library(shape: Shape, options: Options) -> None:
    shape = replace(shape, queries=shape.keys)
    cases = [integer_case(shape, options, masked=True)]
    if options.bits <= 8:
        cases.append(qlinear_case(shape, options, masked=True, packed=True))
    for case in cases:
        assert torch.equal(run(case, model=with_function(case), with_library=False), case.expected)


@needs_library
def test_the_number_of_threads_changes_no_bit() -> None:
    case = qlinear_case(Shape(4, 4, 4, 90, 90, 16, 16), Options(), masked=True)
    assert torch.equal(run(case, threads=2), case.expected)


@needs_library
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bits": 7}, "bits must be 3, 4, 5, 6, 8 or 16, got 7"),
        ({"bits": 16}, "bytes hold at most 8 bits"),
        ({"num_heads": 0}, "num_heads must be at least 1"),
        ({"center": "min"}, "center must be mean or none, got min"),
        ({"output_zero_point": 256}, "zero points must lie in"),
    ],
)
def test_attributes(changed: dict[str, Any], message: str) -> None:
    case = qlinear_case(SMALL, Options(), masked=False)
    with pytest.raises(Exception, match=message):
        run(case._replace(attributes=case.attributes | changed))


@needs_library
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sign": torch.full((4,), 2, dtype=torch.int32)}, "sign must lie in"),
        ({"delta": torch.zeros(3, dtype=torch.int32)}, r"delta must be \(4\), got \(3\)"),
        ({"shift": torch.full((4,), 23, dtype=torch.int32)}, r"shift must lie in \[-15, 22\], got 23 for head 0"),
        ({"multiplier": torch.zeros(4, 6, dtype=torch.int32)}, "made for at most 5 keys, got 6"),
        ({"output_shift": torch.full((4,), 47, dtype=torch.int32)}, "output_shift must lie in"),
        ({"key_padding_mask": torch.ones(2, 7, dtype=torch.bool)}, r"key_padding_mask must be \(2, 6\), got \(2, 7\)"),
        ({"key": None, "value": None}, "head_size must be given"),
        ({"key": torch.zeros(2, 6, 13, dtype=torch.uint8)}, "heads of one size"),
    ],
)
def test_inputs(changed: dict[str, Tensor | None], message: str) -> None:
    case = qlinear_case(SMALL, Options(), masked=False)
    with pytest.raises(Exception, match=message):
        run(case._replace(inputs=case.inputs | changed))
