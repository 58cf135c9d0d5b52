"""The example runs on what was exported, in a process that has no torch, and with or without this package."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.deploy.export import export_model
from tests.deploy.export.cases import NO_ONNX, saved_student
from tests.examples.embeddings import TEXTS, require_similarities, run

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=NO_ONNX)

EXAMPLE = "onnx_embeddings.py"


@pytest.mark.parametrize(("segments", "with_package"), [(0, True), (2, False)])
def test_similarities_are_those_of_the_model(segments: int, with_package: bool, tmp_path: Path) -> None:
    source, model = saved_student(tmp_path / "model", type_vocab_size=segments)
    export_model(source, tmp_path / "out")
    done = run(EXAMPLE, str(tmp_path / "out"), *TEXTS, with_package=with_package)
    assert done.returncode == 0, done.stderr
    serves = with_package and library.unavailable() is None
    assert done.stderr == "" if serves else done.stderr.startswith("standard operators serve: ")
    require_similarities(done.stdout, model, source)


def test_without_arguments_it_says_how() -> None:
    done = run(EXAMPLE)
    assert done.returncode == 1
    assert "python examples/onnx_embeddings.py exported" in done.stderr
