"""What is exported for ONNX Runtime: one file that serves with the operator and without, and that is fused well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.deploy.export import export_model, to_onnxruntime
from inhibitor_transformers.deploy.export.export import RUNTIMES
from inhibitor_transformers.deploy.runtimes.onnxruntime_operator import register
from tests.deploy.export.cases import NO_ONNX, saved_student

onnx = pytest.importorskip("onnx", reason=NO_ONNX)
onnxruntime = pytest.importorskip("onnxruntime", reason=NO_ONNX)
pytest.importorskip("onnxscript", reason=NO_ONNX)
LAYERS = 2

needs_kernels = pytest.mark.skipif(library.unavailable() is not None, reason=str(library.unavailable()))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnxruntime")
    source, _ = saved_student(folder / "model", n_layers=LAYERS)
    return export_model(source, folder / "out").file


def optimized(file: Path, target: Path, prepare: Callable[..., None] = lambda _: None) -> Counter[str]:
    """The operators that are left after ONNX Runtime's own fusions."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(target), 3
    prepare(options)
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(target).graph.node)


def test_the_file_has_a_node_for_each_layer_and_one_function(file: Path) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert Counter(node.op_type for node in model.graph.node if node.domain) == {"InhibitorAttention": LAYERS}
    assert [(function.domain, function.name) for function in model.functions] == [("inhibitor", "InhibitorAttention")]


@needs_kernels
def test_with_the_operator_nothing_else_is_left_of_attention(file: Path, tmp_path: Path) -> None:
    found = optimized(file, tmp_path / "optimized.onnx", register)
    assert found["InhibitorAttention"] == LAYERS
    assert not found.keys() & {"Scan", "Loop", "Transpose", "Where", "Abs"}


@needs_kernels
def test_activations_are_fused_and_residuals_are_not(file: Path, tmp_path: Path) -> None:
    found = optimized(file, tmp_path / "optimized.onnx", register)
    assert found["BiasGelu"] == LAYERS
    assert found["SkipLayerNormalization"] == 0
    assert found["LayerNormalization"] == 2 * LAYERS + 1


def test_without_the_operator_the_function_serves(file: Path, tmp_path: Path) -> None:
    found = optimized(file, tmp_path / "optimized.onnx")
    assert found["InhibitorAttention"] == 0
    assert found["Scan"] == LAYERS


@needs_kernels
def test_both_ways_are_compared(tmp_path: Path) -> None:
    source, _ = saved_student(tmp_path / "model")
    assert list(export_model(source, tmp_path / "out").differences) == ["operator", "standard operators"]


def test_an_installation_without_kernels_exports_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnxruntime.library, "unavailable", lambda: "no compiler")
    source, _ = saved_student(tmp_path / "model")
    assert list(export_model(source, tmp_path / "out").differences) == ["standard operators"]


@needs_kernels
def test_a_file_whose_function_is_another_operation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way is compared: with the operator, this file is right."""
    from inhibitor_transformers.deploy.export import onnx_attention

    right = onnx_attention._attention_function
    monkeypatch.setattr(onnx_attention, "_attention_function", lambda _: right("none"))
    source, _ = saved_student(tmp_path / "model")
    with pytest.raises(ValueError, match="the exported model is not the model"):
        export_model(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_kernels
def test_the_ways_agree(file: Path) -> None:
    ids = torch.randint(5, 100, (3, 21))
    mask = torch.ones_like(ids)
    mask[1, 9:] = mask[2, :4] = 0
    runs = dict(RUNTIMES["onnxruntime"].runs(file, "float32"))
    found = [run({"input_ids": ids, "attention_mask": mask})["last_hidden_state"] for run in runs.values()]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
