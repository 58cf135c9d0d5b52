"""The example runs with the operator of the exported folder and, where that cannot be loaded, without."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhibitor_transformers.deploy.export import export_model
from inhibitor_transformers.deploy.export.export import RUNTIMES
from inhibitor_transformers.deploy.runtimes import openvino_operator
from tests.deploy.export.cases import NO_ONNX, saved_student
from tests.examples.embeddings import TEXTS, require_similarities, run

for package in RUNTIMES["openvino"].packages:
    pytest.importorskip(package, reason=NO_ONNX)
if reason := RUNTIMES["openvino"].missing():
    pytest.skip(f"OpenVINO's operator: {reason}", allow_module_level=True)

EXAMPLE = "openvino_embeddings.py"


@pytest.mark.parametrize("segments", [0, 2])
def test_similarities_are_those_of_the_model(segments: int, tmp_path: Path) -> None:
    source, model = saved_student(tmp_path / "model", type_vocab_size=segments)
    folder = export_model(source, tmp_path / "out", "openvino").file.parent
    with_operator = run(EXAMPLE, str(folder), *TEXTS)
    assert (with_operator.returncode, with_operator.stderr) == (0, "")
    require_similarities(with_operator.stdout, model, source)

    (folder / openvino_operator.NAME).unlink()  # this process has it open
    (folder / openvino_operator.NAME).write_bytes(b"of another release")
    without = run(EXAMPLE, str(folder), *TEXTS)
    assert without.returncode == 0, without.stderr
    assert without.stderr.startswith("without the operator: ")
    require_similarities(without.stdout, model, source)


def test_without_arguments_it_says_how() -> None:
    done = run(EXAMPLE)
    assert done.returncode == 1
    assert "python examples/openvino_embeddings.py exported" in done.stderr
