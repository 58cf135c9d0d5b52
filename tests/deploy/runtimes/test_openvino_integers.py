"""OpenVINO's integer operators are the integer reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

openvino = pytest.importorskip("openvino", reason="needs pip install 'inhibitor-transformers[openvino]'")
onnx = pytest.importorskip("onnx", reason="needs pip install 'inhibitor-transformers[openvino]'")

from inhibitor_transformers.deploy.runtimes import openvino_operator  # noqa: E402
from tests.attention.engine_cases import Shape  # noqa: E402
from tests.deploy.runtimes.integer_cases import (  # noqa: E402
    OPTIONS,
    SHAPES,
    IntegerCase,
    Options,
    graph,
    integer_case,
    qlinear_case,
    tensors_of,
)

try:
    EXTENSION = openvino_operator.extension_path()
except RuntimeError as reason:
    pytest.skip(f"OpenVINO's operator: {reason}", allow_module_level=True)


@pytest.fixture(scope="module")
def core() -> Any:
    made = openvino_operator.new_core()
    made.add_extension(EXTENSION)
    return made


def run(core: Any, model: Any, case: IntegerCase, threads: int = 1) -> Tensor:
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled({name: t.numpy() for name, t in tensors_of(case).items()}).values()
    return torch.from_numpy(found.copy())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [*OPTIONS, Options(16, extra=1)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_floats_in_and_out(core: Any, shape: Shape, options: Options, masked: bool) -> None:
    case = integer_case(shape, options, masked=masked)
    assert torch.equal(run(core, core.read_model(graph(case)), case), case.expected)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bytes_in_and_out(core: Any, shape: Shape, options: Options, masked: bool, packed: bool) -> None:
    shape = replace(shape, queries=shape.keys) if packed else shape
    case = qlinear_case(shape, options, masked=masked, packed=packed)
    assert torch.equal(run(core, core.read_model(graph(case)), case), case.expected)


def test_saved_in_the_form_of_openvino(core: Any, tmp_path: Any) -> None:
    """With all attributes, and on two threads."""
    file = tmp_path / "model.xml"
    options = Options(6, is_signed=False, center="none", is_causal=True, extra=1)
    for case in (integer_case(SHAPES[1], options, masked=True), qlinear_case(SHAPES[1], options, masked=True)):
        openvino.save_model(core.read_model(graph(case)), file, compress_to_fp16=False)
        assert torch.equal(run(core, core.read_model(file), case, threads=2), case.expected)


def test_wrong_inputs(core: Any) -> None:
    case = qlinear_case(Shape(2, 4, 4, 5, 6, 3, 4), Options(), masked=False)
    short = case._replace(inputs=case.inputs | {"multiplier": torch.zeros(4, 6, dtype=torch.int32)})
    with pytest.raises(RuntimeError, match="multiplier was made for at most 5 keys, got 6"):
        run(core, core.read_model(graph(short)), short, threads=2)  # findings/openvino-errors-of-one-thread.sh
    with pytest.raises(RuntimeError, match="bits must be 3, 4, 5, 6, 8 or 16, got 7"):
        core.read_model(graph(case._replace(attributes=case.attributes | {"bits": 7})))
