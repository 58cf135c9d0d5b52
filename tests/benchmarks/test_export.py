"""The benchmark of exported forms runs on tiny shapes; its forms compute the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.test_benchmarks import Script, tables, tiny_distilbert

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="needs the extra onnx: pip install 'inhibitor-transformers[onnx]'")


@pytest.fixture
def export(script: Script, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = script("export")
    monkeypatch.setattr(module, "require_passing_tests", lambda: None)
    monkeypatch.setattr(module, "HEADS", 2)
    monkeypatch.setattr(module, "DIM", 4)
    return module


def test_forms_compute_the_same(export: Any, tmp_path: Path) -> None:
    q, k, v, valid = export.attention_inputs(2, 19)
    valid[1, 9:] = False
    sides = [side for side in export.SIDES if not side.endswith("softmax")]
    with torch.no_grad():
        found = {side: export.attention_side(side, tmp_path)(q, k, v, valid) for side in sides}
    there = found["torch: engine"]
    for side, output in found.items():
        output = output if isinstance(output, torch.Tensor) else torch.from_numpy(output[0])
        torch.testing.assert_close(output, there, atol=1e-4, rtol=1e-4, msg=side)


def test_an_attention_that_computes_something_else_is_not_timed(
    export: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = export.attention_side

    def wrong(side: str, folder: Path) -> Any:
        call = right(side, folder)
        return (lambda q, k, v, valid: call(q, k, v, torch.ones_like(valid))) if side == "torch: cdist" else call

    monkeypatch.setattr(export, "attention_side", wrong)
    monkeypatch.setattr(export, "interleave", lambda *_: pytest.fail("something was timed"))
    with pytest.raises(SystemExit, match="torch: cdist computes something else"):
        export.main(["--shape", "1,5", "--layers", "0"])


@pytest.fixture
def tiny(export: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(export, "DistilBertConfig", tiny_distilbert)
    return export


def test_exported_models_read_tokens_and_mask(tiny: Any, tmp_path: Path) -> None:
    sides = tiny.models(1, tmp_path)
    assert list(sides)[-3:] == [
        "ONNX Runtime: softmax",
        "ONNX Runtime: inhibitor",
        "ONNX Runtime: inhibitor, by its function",
    ]


class OfTheMask(torch.nn.Module):
    """What was exported and timed, because one tensor was the example of both inputs."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.model(input_ids=attention_mask + 0 * input_ids, attention_mask=attention_mask)


def test_an_export_that_embeds_the_mask_is_not_timed(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = tiny.write_onnx
    monkeypatch.setattr(tiny, "write_onnx", lambda module, *rest: right(OfTheMask(module), *rest))
    with pytest.raises(SystemExit, match="ONNX Runtime: softmax computes something else"):
        tiny.models(1, tmp_path)


def test_tables(export: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    threads, output = torch.get_num_threads(), tmp_path / "table.md"
    monkeypatch.setattr(export, "extra_memory", lambda side, shapes, _: ["0.5"] * len(shapes))
    monkeypatch.setattr(export, "models", lambda *_, **__: {"torch: a": lambda *_: None, "torch: b": lambda *_: None})
    try:
        export.main(["--shape", "1,5", "2,17", "--seconds", "0", "--output", str(output)])
    finally:
        torch.set_num_threads(threads)
    attention, models = tables(output)
    assert [row[0] for row in attention[1:]] == export.SIDES
    assert attention[0][1:] == ["1 × 5", "2 × 17"]
    assert all(re.fullmatch(r"\d+\.\d / 0\.5", cell) for row in attention[1:] for cell in row[1:])
    assert [row[0] for row in models[1:]] == ["torch: a", "torch: b"]


def test_memory_is_counted(export: Any, tmp_path: Path) -> None:
    """In a fresh process, with the heads and features of the script."""
    (broadcast,) = export.extra_memory("torch: broadcast", [(1, 32)], tmp_path)
    if broadcast == "-":
        pytest.skip("needs Linux with glibc and a compiler")
    assert float(broadcast) >= 12 * 32 * 32 * 64 * 4 / 2**20


@pytest.fixture
def runtimes(script: Script, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = script("runtime_sides")
    monkeypatch.setattr(module, "DistilBertConfig", tiny_distilbert)
    return module


@pytest.mark.slow
def test_models_in_onnxruntime(export: Any, runtimes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Softmax by ONNX Runtime's own operators is softmax; rows say what was timed."""
    monkeypatch.setattr(export, "runtime_tables", runtimes.runtime_tables)
    threads, rows = torch.get_num_threads(), tmp_path / "rows.json"
    shapes = ["--shape", "1,5", "2,9", "--layers", "1", "--seconds", "0"]
    try:
        export.main(["--runtime", "onnxruntime", *shapes, "--json", str(rows), "--output", str(tmp_path / "table.md")])
    finally:
        torch.set_num_threads(threads)
    found = json.loads(rows.read_text())
    sides = ["softmax, plain", "softmax, Attention", "softmax, MultiHeadAttention"]
    sides += ["softmax, MultiHeadAttention, residuals apart as in ours", "inhibitor, operator"]
    assert [(row["side"], row["batch"], row["length"]) for row in found] == [
        (side, batch, length) for batch, length in ((1, 5), (2, 9)) for side in sides
    ]
    assert {(row["runtime"], row["precision"], row["threads"], row["equal"]) for row in found} == {
        ("onnxruntime", "float32", 1, True)
    }
    assert all(0 < row["ms"] <= row["median_ms"] and row["difference"] < 1e-4 for row in found)
    (table,) = tables(tmp_path / "table.md")
    assert [row[1] for row in table[1:]] == sides


def test_a_model_that_computes_something_else_is_not_timed(runtimes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = runtimes.make_pair(1)
    wrong = runtimes.Side("mine", "float32", lambda inputs: dict(pair.inhibitor(**inputs)), pair.softmax)
    with pytest.raises(SystemExit, match="mine, float32, computes something else"):
        runtimes.differences([wrong])
