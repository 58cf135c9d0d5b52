"""The function of the attention node is the reference: in ONNX Runtime, in ONNX's own evaluator, and, written out, in
OpenVINO. It is small."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inhibitor_transformers.attention import reference
from inhibitor_transformers.attention.call import CENTERS
from inhibitor_transformers.deploy.runtimes import openvino_operator
from tests.attention.cases import Shape
from tests.deploy.export.cases import NO_ONNX, padding
from tests.deploy.runtimes.cases import SCALARS, Case, expected, make_case

onnx = pytest.importorskip("onnx", reason=NO_ONNX)
onnxruntime = pytest.importorskip("onnxruntime", reason=NO_ONNX)
pytest.importorskip("onnxscript", reason=NO_ONNX)

from inhibitor_transformers.deploy.export.onnx_attention import onnx_operator, write_functions_out  # noqa: E402
from inhibitor_transformers.deploy.export.onnx_file import onnx_program  # noqa: E402

HEADS, DIM, VALUE_DIM = 2, 4, 3
INPUTS = ("query", "key", "value", "key_padding_mask")
OPTIONS = [
    {"is_signed": True, "center": "mean", "length_reference": 10.0},
    {"is_signed": False, "center": "none", "length_reference": 64.0},
]
Run = Callable[[Case], Tensor]


def case_of(batch: int, length: int, **attributes: Any) -> Case:
    """Attention of a text to itself, padded in every way; scalars as in every other case."""
    case = make_case(Shape(batch, HEADS, HEADS, length, length, DIM, VALUE_DIM), **attributes)
    scalars = {name: make_case(Shape(1, HEADS, HEADS, 1, 1, DIM, VALUE_DIM)).tensors[name] for name in SCALARS}
    return case._replace(tensors=case.tensors | scalars | {"key_padding_mask": padding(batch, length)})


class Attention(nn.Module):
    def __init__(self, operator: Callable[..., Tensor], case: Case) -> None:
        super().__init__()
        self.operator, self.scalars = operator, [case.tensors[name] for name in SCALARS]
        self.attributes = {name: value for name, value in case.attributes.items() if name != "kv_num_heads"}

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor) -> Tensor:
        return self.operator(query, key, value, key_padding_mask, *self.scalars, None, **self.attributes)


def broadcast(*tensors: Tensor | None, num_heads: int, length_reference: float, center: Any, is_signed: bool) -> Tensor:
    """The reference, unchunked."""
    q, k, v = (t.unflatten(2, (num_heads, -1)).transpose(1, 2) for t in tensors[:3])
    scalars = {name: t[:, None, None] for name, t in zip(SCALARS, tensors[4:8], strict=True)}
    options = {"length_reference": length_reference, "signed": is_signed, "center": center}
    return reference.attend(q, k, v, tensors[3][:, None, None], None, **scalars, **options).transpose(1, 2).flatten(2)


def written(
    file: Path, operator: Callable[..., Tensor] = onnx_operator, *, standard: bool = False, **options: Any
) -> Path:
    case = case_of(5, 7, **options)
    axes = {name: {0: "batch", 1: "length"} for name in INPUTS}
    inputs = {name: case.tensors[name] for name in INPUTS}
    program = onnx_program(Attention(operator, case).eval(), inputs, axes, ["output"])
    if standard:
        write_functions_out(program.model)
    program.save(file)
    return file


def feed(case: Case) -> dict[str, Any]:
    return {name: case.tensors[name].numpy() for name in INPUTS}


def in_onnx_runtime(file: Path) -> Run:
    """Without the operator of this package."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda case: torch.from_numpy(session.run(None, feed(case))[0])


def in_evaluator(file: Path) -> Run:
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load(file))
    return lambda case: torch.from_numpy(evaluator.run(None, feed(case))[0])


def in_openvino(file: Path) -> Run:
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    model = openvino_operator.new_core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda case: torch.from_numpy(model(feed(case))[0].copy())


def assert_is_reference(found: Tensor, case: Case) -> None:
    there = expected(case)
    torch.testing.assert_close(found.double(), there, atol=1e-6 * there.abs().max().item(), rtol=1e-5)


READERS = [
    pytest.param(in_onnx_runtime, False, id="onnxruntime, function"),
    pytest.param(in_onnx_runtime, True, id="onnxruntime, written out"),
    pytest.param(in_evaluator, False, id="evaluator"),
    pytest.param(in_openvino, True, id="openvino"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("reader", "standard"), READERS)
def test_it_is_the_reference_at_any_length(
    reader: Callable[[Path], Run], standard: bool, options: dict[str, Any], tmp_path: Path
) -> None:
    """Lengths around the 16 rows of a block; a row without keys gives zero; values are of another size than keys."""
    assert options["center"] in CENTERS
    run = reader(written(tmp_path / "attention.onnx", standard=standard, **options))
    for batch, length in ((1, 1), (5, 15), (5, 16), (5, 17), (3, 50)):
        case = case_of(batch, length, **options)
        found = run(case)
        assert_is_reference(found, case)
        if batch == 5:
            assert not found[4].any()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("onnx") / "attention.onnx", **OPTIONS[0])


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("standard") / "attention.onnx", standard=True, **OPTIONS[0])


@pytest.mark.parametrize("reader", [in_onnx_runtime, in_openvino])
def test_what_a_masked_key_holds_is_never_read(reader: Callable[[Path], Run], standard: Path) -> None:
    case = case_of(3, 20, **OPTIONS[0])
    invalid = ~case.tensors["key_padding_mask"][..., None]
    poisoned = {name: case.tensors[name].masked_fill(invalid, torch.nan) for name in ("key", "value")}
    run = reader(standard)
    assert torch.equal(run(case._replace(tensors=case.tensors | poisoned)), run(case))


def test_many_keys_cost_no_digits(file: Path) -> None:
    """The error is at most twice that of the reference in float32. Few pairs are left: queries are multiplied by 10."""
    case = case_of(1, 500, **OPTIONS[0])
    steep = case._replace(tensors=case.tensors | {"query": 10 * case.tensors["query"]})
    found, in_torch, there = in_onnx_runtime(file)(steep), expected(steep, dtype=torch.float32), expected(steep)
    error, allowed = ((output.double() - there).abs().max() for output in (found, in_torch))
    assert error <= 2 * allowed


def test_a_node_and_its_function(file: Path) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert {imported.domain: imported.version for imported in model.opset_import} == {"": 20, "inhibitor": 1}
    (function,) = model.functions
    assert {node.domain for node in function.node} == {""}
    (node,) = [node for node in model.graph.node if node.domain == "inhibitor"]
    assert (node.op_type, function.name, function.domain) == ("InhibitorAttention", "InhibitorAttention", "inhibitor")
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert given == {"num_heads": HEADS, "length_reference": 10.0, "center": b"mean", "is_signed": 1}
    assert set(function.attribute) == given.keys()
    assert len(node.input) == len(function.input) == 8


def test_written_out_only_standard_operators_are_left(standard: Path) -> None:
    model = onnx.load(standard)
    onnx.checker.check_model(model, full_check=True)
    assert [imported.domain for imported in model.opset_import] == [""]
    assert not model.functions
    assert {"Scan"} == {node.op_type for node in model.graph.node if any(a.HasField("g") for a in node.attribute)}


def test_nothing_of_queries_times_keys_times_features_is_held(file: Path, tmp_path: Path) -> None:
    """ONNX's own evaluator holds each result as a numpy array, which can be counted: not even all scores are there."""
    case = case_of(1, 512, **OPTIONS[0])

    def peak(of: Path) -> int:
        run = in_evaluator(of)
        tracemalloc.start()
        try:
            output = run(case)
            found = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert_is_reference(output, case)
        return found

    scores = HEADS * 512 * 512 * 4
    assert peak(file) < scores
    assert peak(written(tmp_path / "broadcast.onnx", broadcast, **OPTIONS[0])) > DIM * scores
