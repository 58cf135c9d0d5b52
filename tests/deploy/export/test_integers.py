"""A quantized model that is exported computes the same integers, in every runtime that serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers import InhibiDistilBertForSequenceClassification, InhibiDistilBertModel
from inhibitor_transformers.deploy.export import export_model
from inhibitor_transformers.deploy.export.export import RUNTIMES
from inhibitor_transformers.deploy.export.integers import is_quantized
from inhibitor_transformers.deploy.export.runtime import Run
from inhibitor_transformers.deploy.quantize import quantize
from tests.deploy.export.cases import NO_ONNX
from tests.distill.tiny import bert, bert_tokenizer, sentences

onnx = pytest.importorskip("onnx", reason=NO_ONNX)
onnxruntime = pytest.importorskip("onnxruntime", reason=NO_ONNX)
TEXTS = sentences(40)
BYTES, FLOATS = "QLinearInhibitorAttention", "IntegerInhibitorAttention"


def saved(folder: Path, fields: dict[str, Any], settings: dict[str, Any], kind: Any = InhibiDistilBertModel) -> Any:
    """A quantized model, in `folder` with its tokenizer."""
    torch.manual_seed(0)
    student = kind.from_teacher(bert(), **fields).eval()
    made = quantize(student, TEXTS[:20], bert_tokenizer(), max_length=60, **settings)
    made.save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return made


def batch() -> dict[str, Tensor]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    found = bert_tokenizer()(TEXTS[20:30], padding=True, truncation=True, max_length=60, return_tensors="pt")
    return {name: found[name] for name in names if name in found}


def runs(file: Path, runtime: str) -> dict[str, Run]:
    return dict(RUNTIMES[runtime].runs(file, "int8"))


def of_inputs(file: Path) -> dict[str, Tensor]:
    names = {i.name for i in onnx.load(file, load_external_data=False).graph.input}
    return {name: t for name, t in batch().items() if name in names}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("fields", "settings", "operator"),
    [
        ({}, {"bits": 8}, BYTES),
        ({"inhibitor_signed": False, "inhibitor_center": "none"}, {"bits": 6, "embeddings": True}, BYTES),
        ({}, {"bits": 16}, FLOATS),
        ({}, {"bits": 4, "linears": False}, FLOATS),
        ({"inhibitor_value_center": "mean"}, {"bits": 8}, FLOATS),
    ],
    ids=str,
)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_same_integers(
    tmp_path: Path, fields: dict[str, Any], settings: dict[str, Any], operator: str, runtime: str
) -> None:
    if missing := RUNTIMES[runtime].missing():
        pytest.skip(missing)
    for package in RUNTIMES[runtime].packages:
        pytest.importorskip(package, reason=f"the runtime {runtime} needs it")
    model = saved(tmp_path / "model", fields, settings)
    done = export_model(tmp_path / "model", tmp_path / "out", runtime)
    assert "standard.onnx" not in done.loading
    kinds = {n.op_type for n in onnx.load(done.file, load_external_data=False).graph.node if n.domain == "inhibitor"}
    assert kinds == {operator}
    valid = batch()["attention_mask"].bool()
    there = model(**{n: t for n, t in batch().items() if n in of_inputs(done.file)}).last_hidden_state[valid]
    for run in runs(done.file, runtime).values():
        found = run(of_inputs(done.file))["last_hidden_state"][valid]
        # A number on the verge of two bytes may fall to either side; the others are equal.
        assert (found - there).abs().quantile(0.5) < 1e-5
        assert (found - there).norm() / there.norm() < 0.02


def test_with_and_without_the_library_there_is_no_difference(tmp_path: Path) -> None:
    saved(tmp_path / "model", {}, {"bits": 8}, InhibiDistilBertForSequenceClassification)
    done = export_model(tmp_path / "model", tmp_path / "out", "onnxruntime", "int8")
    found = [run(of_inputs(done.file))["logits"] for run in runs(done.file, "onnxruntime").values()]
    assert len(found) == len(done.differences)
    assert all(torch.equal(found[0], other) for other in found)


def test_precisions_that_do_not_fit(tmp_path: Path) -> None:
    made = saved(tmp_path / "quantized", {}, {"bits": 8})
    assert is_quantized(made)
    with pytest.raises(ValueError, match="is quantized: --precision int8"):
        export_model(tmp_path / "quantized", tmp_path / "out", "onnxruntime", "float32")
    with pytest.raises(ValueError, match="--runtime torch does not serve: onnxruntime, openvino do"):
        export_model(tmp_path / "quantized", tmp_path / "out", "torch")
    student = InhibiDistilBertModel.from_teacher(bert())
    student.save_pretrained(tmp_path / "float")
    bert_tokenizer().save_pretrained(tmp_path / "float")
    with pytest.raises(ValueError, match="is not quantized: inhibit quantize makes"):
        export_model(tmp_path / "float", tmp_path / "out", "onnxruntime", "int8")
    assert not (tmp_path / "out").exists()


def test_features_of_a_head_with_steps_of_their_own(tmp_path: Path) -> None:
    """As models have them that were quantized before attention wrote bytes."""
    made = saved(tmp_path / "model", {}, {"bits": 8})
    made.transformer.layer[0].attention.out_lin.input_step[0] *= 2
    made.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="read with different steps: quantize the model anew"):
        export_model(tmp_path / "model", tmp_path / "out", "onnxruntime")
