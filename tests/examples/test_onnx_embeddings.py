"""The example runs on what was exported, in a process that has neither torch nor this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from inhibitor_transformers.deploy.export import export_model
from tests.conftest import REPOSITORY
from tests.deploy.export.cases import NO_ONNX, saved_student

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=NO_ONNX)

EXAMPLE = REPOSITORY / "examples" / "onnx_embeddings.py"
TEXTS = ["the old cat sees a bird", "a dog", "the small fish sleeps and hears the " + 20 * "old cat and dog "]


def run(*arguments: str, absent: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    code = f"""
import runpy, sys
for name in ("torch", "transformers", *{absent!r}):
    sys.modules[name] = None  # importing it raises ImportError
sys.argv = {[EXAMPLE.name, *arguments]!r}
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("segments", "absent"), [(0, ()), (2, ("inhibitor_transformers",))])
def test_similarities_are_those_of_the_model(segments: int, absent: tuple[str, ...], tmp_path: Path) -> None:
    """With the operator, and where this package is not installed."""
    source, model = saved_student(tmp_path / "model", type_vocab_size=segments)
    export_model(source, tmp_path / "out")
    done = run(str(tmp_path / "out"), *TEXTS, absent=absent)
    assert done.returncode == 0, done.stderr
    found = {tuple(line[8:].split("' '")): float(line[:6]) for line in done.stdout.splitlines()}

    batch = AutoTokenizer.from_pretrained(source)(
        TEXTS, padding=True, truncation=True, max_length=48, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert list(found) == [(f"'{TEXTS[i]}", f"{TEXTS[j]}'") for i, j in pairs]
    assert list(found.values()) == pytest.approx([float(mean[i] @ mean[j]) for i, j in pairs], abs=1e-3)


def test_without_arguments_it_says_how() -> None:
    done = run()
    assert done.returncode == 1
    assert "python examples/onnx_embeddings.py exported" in done.stderr
