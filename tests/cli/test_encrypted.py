"""`inhibit encrypted`: plans of trained models, and what is said where the engine is not installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.client_part import ClientPart
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from tests.deploy.encrypted.cases import random_classifier

without_engine = pytest.mark.skipif(find_spec("concrete") is not None, reason="concrete-python is installed here")


class Encoder:
    def state(self):
        return {"kind": "levels"}, {"scale": np.ones(2)}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder, and a loader that reads a random classifier from any that exists."""
    saved = ModuleType("saved")
    info = {"labels": ["yes", "no", "perhaps"]}
    saved.load_model = lambda folder: (random_classifier("inhibitor"), Encoder(), info)
    monkeypatch.setitem(sys.modules, "inhibitor_transformers.deploy.encrypted.saved", saved)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def test_plan(inhibit, model, tmp_path):
    done = inhibit("encrypted", "plan", model, "--output", tmp_path / "plan")
    assert (done.status, done.err) == (0, "")
    plan, part = EncryptedPlan.load(tmp_path / "plan"), ClientPart.load(tmp_path / "plan")
    assert plan.digest == random_classifier("inhibitor").plan().digest == part.plan
    assert (part.labels, part.encoder, part.arrays["scale"].tolist()) == (
        ("yes", "no", "perhaps"),
        {"kind": "levels"},
        [1, 1],
    )
    rows = [line.split() for line in done.out.splitlines() if line]
    for table in plan.tables:
        numbers = [str(number) for number in (table.bootstraps, table.bits, table.low, table.high)]
        assert any(set(numbers) <= set(row) and table.name.split()[0] in row for row in rows), table
    assert f"{plan.bootstraps} bootstraps of up to {plan.table_bits} bits: cost {plan.cost:.1f}e9" in done.out
    assert {path.name for path in (tmp_path / "plan").iterdir()} == {
        "plan.json",
        "plan.npz",
        "client.json",
        "client.npz",
    }


def test_a_table_that_is_too_wide(refused, model, tmp_path):
    error = refused("encrypted", "plan", model, "--output", tmp_path / "plan", "--max-table-bits", "2")
    assert "its table would need" in error
    assert not (tmp_path / "plan").exists()


def test_a_plan_is_not_overwritten(refused, model, tmp_path):
    (tmp_path / "plan").mkdir()
    assert "plan exists: name another folder" in refused("encrypted", "plan", model, "-o", tmp_path / "plan")


@without_engine
@pytest.mark.parametrize(
    "words", [("compile", "P", "--client", "C"), ("keys", "C"), ("serve", "P"), ("ask", "C", "--text", "good")]
)
def test_the_engine_is_absent(refused, words):
    error = refused("encrypted", *words)
    assert "run make encrypted, then build/encrypted/bin/inhibit encrypted " + words[0] in error


@pytest.mark.parametrize("given", [(), ("--text", "good", "--input", "x.npy")])
def test_ask_needs_one_kind_of_input(refused, given):
    assert "give either --input or --text" in refused("encrypted", "ask", "C", *given)


def test_neither_transformers_nor_torch_is_imported():
    """The engine's environment has no transformers, and torch takes seconds."""
    code = f"""
import sys
for name in {["torch", "transformers", "datasets", "accelerate", "sklearn", "pyarrow", "yaml", "psutil"]}:
    sys.modules[name] = None
sys.argv = ["inhibit", "encrypted", "ask", "C"]
from inhibitor_transformers.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "error: give either --input or --text\n")
