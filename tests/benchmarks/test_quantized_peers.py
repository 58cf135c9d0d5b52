"""The comparison of int8 models in other runtimes runs on a tiny model; what computes something else is not timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.test_benchmarks import Script, tables, tiny_distilbert

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="needs the extra onnx: pip install 'inhibitor-transformers[onnx]'")
QUICK = ["--layers", "1", "--threads", "1", "--batches", "1", "--lengths", "8", "--rounds", "1", "--seconds", "0"]


@pytest.fixture
def quantized(script: Script, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = script("quantized")
    monkeypatch.setattr(module, "require_passing_tests", lambda: None)
    monkeypatch.setattr(module, "DistilBertConfig", tiny_distilbert)
    return module


def test_rows(quantized: Any, tmp_path: Path) -> None:
    threads, rows, output = torch.get_num_threads(), tmp_path / "rows.json", tmp_path / "table.md"
    try:
        quantized.main(["--peers", "onnxruntime", "torch", *QUICK, "--json", str(rows), "--output", str(output)])
    finally:
        torch.set_num_threads(threads)
    found = json.loads(rows.read_text())
    assert [(row["runtime"], row["side"]) for row in found] == [
        ("onnxruntime", "softmax, dynamic"),
        ("onnxruntime", "inhibitor, operator"),
        ("torch", "inhibitor"),
    ]
    assert all(row["equal"] and row["ms"] > 0 and row["length"] == 8 for row in found)
    (table,) = tables(output)
    assert [row[0] for row in table[1:]] == ["onnxruntime", "onnxruntime", "torch"]


def test_a_side_that_computes_something_else_is_not_timed(
    quantized: Any, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    peers = script("quantized_peers")
    right = peers.in_torch

    def wrong(model: torch.nn.Module) -> Any:
        return lambda inputs: {name: t.roll(1, 1) for name, t in right(model)(inputs).items()}

    monkeypatch.setitem(quantized.PEERS, "torch", lambda models, _: iter([side(models, wrong(models.inhibitor))]))

    def side(models: Any, run: Any) -> Any:
        return peers.Side("inhibitor", "int8", run, models.inhibitor, peers.INT8)

    with pytest.raises(SystemExit, match="inhibitor, int8, computes something else"):
        quantized.main(["--peers", "torch", *QUICK])


def test_a_student_needs_its_teacher(quantized: Any) -> None:
    with pytest.raises(SystemExit):
        quantized.main(["--peers", "torch", "--student", "somewhere"])
