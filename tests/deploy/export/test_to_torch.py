"""The program that calls the operator: on any batch, with one library loaded, and nothing else of this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.deploy.export import export_model
from inhibitor_transformers.deploy.runtimes import torch_operator
from tests.deploy.export.cases import saved_student
from tests.models.tiny import outputs_of


def inputs_of(batch: int, length: int) -> dict[str, Tensor]:
    """The last sequence is padded behind, and the one before it in front."""
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length // 2 :] = 0
    mask[-2, : length // 3] = 0
    return {"input_ids": torch.randint(5, 100, (batch, length)), "attention_mask": mask}


def run_without_package(code: str) -> subprocess.CompletedProcess[str]:
    hidden = "import sys\nfor name in ('transformers', 'inhibitor_transformers'): sys.modules[name] = None\n"
    command = [sys.executable, "-c", f"{hidden}import torch\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(torch_operator.unavailable() is not None, reason=f"{torch_operator.unavailable()}")
def test_it_runs_with_the_library_and_nothing_else(tmp_path: Path) -> None:
    options = {"inhibitor_value_center": "mean", "inhibitor_signed": False, "inhibitor_center": "none"}
    source, model = saved_student(tmp_path / "model", n_layers=2, **options)
    done = export_model(source, tmp_path / "out", "torch")
    assert list(done.differences) == ["operator", "standard operators"]
    batches = [inputs_of(*shape) for shape in ((2, 3), (5, 31))]
    torch.save(batches, tmp_path / "inputs")
    run = f"""
module = torch.export.load({str(done.file)!r}).module()
torch.save([module(**inputs) for inputs in torch.load({str(tmp_path / "inputs")!r})], {str(tmp_path / "outputs")!r})
"""
    assert "inhibitor.InhibitorAttention" in run_without_package(run).stderr  # names what has to be registered
    ran = run_without_package(f"torch.ops.load_library({str(tmp_path / 'out' / torch_operator.FILE)!r})\n{run}")
    assert ran.returncode == 0, ran.stderr
    for found, inputs in zip(torch.load(tmp_path / "outputs"), batches, strict=True):
        torch.testing.assert_close(found, outputs_of(model, **inputs), atol=1e-6, rtol=1e-5)


def test_without_the_operator_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise library.UnavailableError("not built")

    monkeypatch.setattr(torch_operator, "load", fails)
    for runtime in ("torch", "aotinductor"):
        with pytest.raises(ValueError, match=rf"^the runtime {runtime} cannot be exported for here: not built$"):
            export_model("nothing", tmp_path / "out", runtime)
    assert not (tmp_path / "out").exists()
