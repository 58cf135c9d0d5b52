"""Plans: their digest, their files, and their costs."""

from __future__ import annotations

import dataclasses
import json
import os
import stat

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.graph import Graph
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from inhibitor_transformers.deploy.encrypted.search import search_graph
from tests.deploy.encrypted.cases import KINDS, random_classifier, random_inputs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_saved_plan_is_the_same_plan(tmp_path, kind, tied):
    classifier = random_classifier(kind, tied=tied)
    plan = classifier.plan()
    saved = EncryptedPlan.load(plan.save(tmp_path / "plan"))
    assert saved.digest == plan.digest
    assert saved.tables == plan.tables
    inputs = random_inputs(classifier, 10)
    assert (saved.finish(saved.evaluate(inputs)) == plan.finish(plan.evaluate(inputs))).all()


def test_files_are_their_owner_s_alone(tmp_path):
    folder = random_classifier("inhibitor").plan().save(tmp_path / "plan")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in folder.iterdir()} == {0o600}


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, monkeypatch):
    plan = random_classifier("inhibitor").plan()
    (tmp_path / "plan").mkdir()
    with pytest.raises(ValueError, match="exists: name another folder"):
        plan.save(tmp_path / "plan")
    with pytest.raises(ValueError, match="the folder that it should be made in does not exist"):
        plan.save(tmp_path / "absent" / "plan")

    def fail(*_args: object, **_arrays: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        plan.save(tmp_path / "another")
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


@pytest.mark.parametrize("field", ["query", "head", "bias", "scores"])
def test_every_number_is_in_the_digest(field):
    classifier = random_classifier("inhibitor")
    changed = getattr(classifier, field)
    if field == "query":
        tables = changed.tables.copy()
        tables[0, 0] = 2 - tables[0, 0]
        changed = dataclasses.replace(changed, tables=tables)
    elif field == "scores":
        changed = dataclasses.replace(changed, delta=changed.delta - 1)
    else:
        changed = changed.copy()
        changed.flat[0] += 1
    other = dataclasses.replace(classifier, **{field: changed})
    assert classifier.plan().digest != other.plan().digest
    assert classifier.plan().digest == random_classifier("inhibitor").plan().digest


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "plan.npz").write_bytes((folder / "plan.npz").read_bytes()[:-40]),
        lambda folder: (folder / "plan.npz").unlink(),
        lambda folder: (folder / "plan.json").write_text("[]"),
        lambda folder: (folder / "plan.json").write_text("{"),
        lambda folder: edit(folder, lambda plan: plan.update(format=0)),
        lambda folder: edit(folder, lambda plan: plan["nodes"][1].update(operation="product")),
        lambda folder: edit(folder, lambda plan: plan["nodes"][1].update(inputs=[99])),
        lambda folder: edit(folder, lambda plan: plan["nodes"][1].pop("name")),
        lambda folder: edit(folder, lambda plan: plan["nodes"].pop(1)),
        lambda folder: edit(folder, lambda plan: plan.update(max_table_bits=2)),
    ],
    ids=["short", "absent", "list", "no JSON", "format", "operation", "inputs", "name", "node", "bits"],
)
def test_damaged_plans_are_refused(tmp_path, damage):
    folder = random_classifier("inhibitor").plan().save(tmp_path / "plan")
    damage(folder)
    with pytest.raises(ValueError, match="plan"):
        EncryptedPlan.load(folder)


def edit(folder, change) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    change(plan)
    (folder / "plan.json").write_text(json.dumps(plan))


def test_costs():
    """The widest table sets the price of every bootstrap; sums are free."""
    narrow = random_classifier("inhibitor", width=8).plan()
    wide = random_classifier("inhibitor", width=8, levels=9).plan(max_table_bits=7)
    assert (narrow.table_bits, wide.table_bits) == (5, 7)
    assert sum(table.bootstraps for table in wide.tables) == wide.bootstraps
    assert wide.cost / wide.bootstraps > 5 * narrow.cost / narrow.bootstraps
    search = EncryptedPlan(search_graph(np.array([[0, 3]]), 3))
    assert (search.bootstraps, search.table_bits, search.cost) == (0, 0, 0.0)


def test_a_plan_computes_something():
    graph = Graph()
    graph.input("x", np.zeros(1, int), np.ones(1, int))
    with pytest.raises(ValueError, match="needs an input and something"):
        EncryptedPlan(graph)
    graph.sum("y", graph.tensor(0), 0)
    with pytest.raises(ValueError, match="does not fit parts"):
        EncryptedPlan(random_classifier("inhibitor").plan().graph, np.zeros(7, int))
