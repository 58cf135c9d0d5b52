"""Accuracies of encrypted classifiers: runs are not repeated, and the table is of what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from inhibitor_transformers.deploy.encrypted.saved import load_model
from inhibitor_transformers.deploy.encrypted.training.recipe import Recipe
from inhibitor_transformers.deploy.encrypted.training.train import train_classifier
from tests.scripts import Script

SMALL = ["--tokens", "4", "--attention", "inhibitor", "--seeds", "0"]


@pytest.fixture
def benchmark(script: Script, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With trainings of a few steps; it sets the threads of the process, which are put back."""
    module = script("encrypted_accuracy")
    recipe = Recipe(restarts=1, real_steps=2, steps=2)
    monkeypatch.setattr(
        module, "train_classifier", lambda *args, **more: train_classifier(*args, recipe=recipe, **more)
    )
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    return module


def test_what_was_run_is_not_run_again(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "accuracy.json"
    benchmark.main(["--output", str(file), *SMALL, "--tied", "yes", "--models", str(tmp_path / "models")])
    first = json.loads(file.read_text())
    assert [record["tied"] for record in first] == [True]
    benchmark.main(["--output", str(file), *SMALL])
    records = json.loads(file.read_text())
    assert [record["tied"] for record in records] == [True, False]
    assert records[0] == first[0]
    assert [record["bootstraps"] for record in records] == [222, 304]
    loaded = load_model(tmp_path / "models" / "digits-4-inhibitor-tied-0")
    assert round(100 * loaded.info["scores"]["test"], 2) == records[0]["test"]
    capsys.readouterr()
    benchmark.main(["--table", str(file)])
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4
    assert f"| {records[1]['test']:.1f} (0.0) | 304 |" in table[2]


def test_the_committed_records_are_of_runs_that_the_script_makes(benchmark: ModuleType) -> None:
    file = Path(benchmark.__file__).parents[1] / "results" / "encrypted-accuracy.json"
    records = json.loads(file.read_text())
    keys = [tuple(record[name] for name in benchmark.KEY) for record in records]
    assert len(set(keys)) == len(keys) >= 30
    assert all(0 < record[name] <= 100 for record in records for name in ("float_validation", "validation", "test"))
