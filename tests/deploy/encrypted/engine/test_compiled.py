"""Compilation: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import stat

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.client_part import ClientPart
from inhibitor_transformers.deploy.encrypted.engine import compiled
from inhibitor_transformers.deploy.encrypted.engine.client_folder import ClientFolder
from inhibitor_transformers.deploy.encrypted.engine.compiled import compile_folder, load_program, recompile
from inhibitor_transformers.deploy.encrypted.graph import Graph
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan


def test_what_is_written(shared):
    program, client = load_program(shared.plan), ClientFolder.load(shared.client)
    assert client.program == program
    assert program.plan == EncryptedPlan.load(shared.plan).digest
    assert program.request.size < 2_000
    for path in (shared.client, *shared.client.rglob("*"), *shared.plan.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_clients_do_not_get_the_weights(shared):
    with np.load(shared.client / "client.npz") as arrays:
        assert set(arrays) == {"low", "high", "output_low", "output_high", "offset"}
    assert {path.name for path in shared.client.iterdir()} == {"client.json", "client.npz", "specs.json", "keys"}


def test_a_second_client_has_the_same_program(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_describe", None)  # it is known already
    before = (folders.plan / "program.json").read_bytes()
    compile_folder(folders.plan, tmp_path / "second")
    assert (folders.plan / "program.json").read_bytes() == before
    assert ClientFolder.load(tmp_path / "second").program == load_program(folders.plan)


def test_another_error_probability_than_the_clients_have(folders, tmp_path):
    with pytest.raises(ValueError, match=r"was compiled at an error probability of 0.001, and its clients have"):
        compile_folder(folders.plan, tmp_path / "second", 1e-6)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("p_error", [0.0, 1.0, -1e-3, float("nan")])
def test_no_probability(folders, tmp_path, p_error):
    with pytest.raises(ValueError, match="between 0 and 1"):
        compile_folder(folders.plan, tmp_path / "second", p_error)


def test_a_folder_that_is_there(folders):
    with pytest.raises(ValueError, match="client exists: name another folder"):
        compile_folder(folders.plan, folders.client)


def test_a_client_part_of_another_plan(folders, other, tmp_path):
    for name in ("client.json", "client.npz"):
        shutil.copy(other.plan / name, folders.plan / name)
    with pytest.raises(ValueError, match="plan and client do not belong together"):
        compile_folder(folders.plan, tmp_path / "second")


def test_a_program_that_computes_something_else(folders, tmp_path, monkeypatch):
    (folders.plan / "program.json").unlink()
    evaluate = EncryptedPlan.evaluate
    monkeypatch.setattr(EncryptedPlan, "evaluate", lambda plan, inputs: evaluate(plan, inputs) + 1)
    with pytest.raises(ValueError, match="a sample was decrypted to other integers than the plan's"):
        compile_folder(folders.plan, tmp_path / "second")
    assert not (folders.plan / "program.json").exists()
    assert not (tmp_path / "second").exists()


def test_no_parameters(tmp_path):
    """For tables of 17 bits."""
    graph = Graph(max_table_bits=17)
    x = graph.input("x", np.zeros((1, 1), np.int64), np.full((1, 1), 2**17 - 1))
    graph.lookup("half", x, lambda s: s // 2)
    plan = EncryptedPlan(graph)
    plan.save(tmp_path / "plan", ClientPart.of(plan).files())
    with pytest.raises(ValueError, match=r"Concrete cannot compile this plan at an error of 0.001: \w"):
        compile_folder(tmp_path / "plan", tmp_path / "client")
    assert not (tmp_path / "client").exists()


def test_a_plan_that_was_not_compiled(folders):
    (folders.plan / "program.json").unlink()
    with pytest.raises(ValueError, match=r"holds no program.json: run inhibit encrypted compile first"):
        recompile(folders.plan)


def test_the_program_of_another_plan(folders, other):
    shutil.copy(other.plan / "program.json", folders.plan / "program.json")
    with pytest.raises(ValueError, match="of another plan, or the plan is damaged"):
        recompile(folders.plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specs": "0" * 64}, "compiles to other parameters here"),
        ({"engine": "2.10.0"}, "compiled with concrete-python 2.10.0, this is 2.11.0"),
        ({"keys": None}, "describes no compiled program"),
    ],
)
def test_a_damaged_program(folders, change, message):
    file = folders.plan / "program.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        recompile(folders.plan)


@pytest.mark.parametrize("name", ["plan.json", "plan.npz", "program.json"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b""])
def test_a_truncated_file(folders, name, damage):
    file = folders.plan / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=name):
        recompile(folders.plan)
