"""`inhibit export`; what it writes is tested in tests/deploy/export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Inhibit


def test_a_package_of_torch(inhibit: Inhibit, student: str, tmp_path: Path) -> None:
    done = inhibit("export", student, tmp_path / "out", "--runtime", "torch", "--threads", "1")
    assert done.status == 0, done.err
    assert done.err == ""
    first, *differences, loading = done.out.splitlines()
    assert first.startswith(f"InhibiDistilBertModel exported to {tmp_path / 'out' / 'model.pt2'} (")
    for line, name in zip(differences, ("operator", "standard operators"), strict=True):
        assert line.startswith(f"largest difference from the model, {name}: ")
    library = tmp_path / "out" / "_torch_operator.so"
    assert loading.startswith(f"to load it: torch.ops.load_library('{library}'), then torch.export.load(")
    assert library.is_file()
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_onnxruntime_is_the_default(inhibit: Inhibit, student: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra onnx: pip install 'inhibitor-transformers[onnx]'")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    (tmp_path / "out" / "run.yaml").write_text("inhibit: export")
    done = inhibit("export", student, tmp_path / "out", "--overwrite")
    assert done.status == 0, done.err
    assert done.err == ""
    assert (tmp_path / "out" / "model.onnx").is_file()
    assert not (tmp_path / "out" / "old").exists()


def test_refusals_are_one_line(refused: Callable[..., str], teacher: str, student: str, tmp_path: Path) -> None:
    assert "only InhibiDistilBERT can be exported" in refused("export", teacher, tmp_path / "out", "--runtime", "torch")
    assert "is the model" in refused("export", student, student, "--runtime", "torch")
    assert "--runtime must be one of onnxruntime, openvino, torch" in refused(
        "export", student, tmp_path / "out", "--runtime", "gguf"
    )
    assert "it is called --runtime now" in refused("export", student, tmp_path / "out", "--format", "torch")
    assert not (tmp_path / "out").exists()
