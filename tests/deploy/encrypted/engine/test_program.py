"""Compiled plans against their clear evaluation: simulated on many inputs, encrypted on some."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("concrete.fhe", reason="the engine has its own environment: make test-encrypted")

from inhibitor_transformers.deploy.encrypted.attention import InhibitorScores
from inhibitor_transformers.deploy.encrypted.engine import program
from inhibitor_transformers.deploy.encrypted.engine.program import compile_plan, decode
from inhibitor_transformers.deploy.encrypted.graph import Graph
from inhibitor_transformers.deploy.encrypted.levels import ValueLevels
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from inhibitor_transformers.deploy.encrypted.search import search_graph, thermometer
from inhibitor_transformers.deploy.encrypted.specification import specification_graph
from tests.deploy.encrypted.cases import KINDS, random_classifier, random_inputs

# Of an example: of hundreds that are simulated, none may be wrong by chance; of few that are encrypted, with keys that
# are made in a second, neither.
RARE, SOMETIMES = 1e-6, 1e-4


def simulated(plan, inputs, global_p_error=RARE) -> np.ndarray:
    circuit = compile_plan(plan, simulate=True, global_p_error=global_p_error)
    return np.stack([decode(plan, circuit.simulate(x)) for x in inputs])


def encrypted(plan, inputs) -> np.ndarray:
    circuit = compile_plan(plan, global_p_error=SOMETIMES)
    return np.stack([decode(plan, circuit.decrypt(circuit.run(circuit.encrypt(x)))) for x in inputs])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("values", [ValueLevels(2, signed=False), ValueLevels(3)], ids=["unsigned", "signed"])
def test_simulated_classifiers_give_the_clear_integers(kind, tied, values):
    classifier = random_classifier(kind, tied=tied, values=values, seed=3)
    plan = classifier.plan()
    inputs = random_inputs(classifier, 200)
    assert (simulated(plan, inputs) == plan.evaluate(inputs)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_encrypted_classifiers_give_the_clear_integers(kind):
    classifier = random_classifier(kind, tokens=2, width=2, classes=2)
    plan = classifier.plan()
    inputs = random_inputs(classifier, 4)
    assert (encrypted(plan, inputs) == plan.evaluate(inputs)).all()


def test_widths_do_not_depend_on_the_inputs_that_concrete_sees(monkeypatch):
    """Measured on one input alone, every value would get too few bits, and wrap around in silence."""
    monkeypatch.setattr(program, "_corners", lambda plan: [plan.input.low])
    classifier = random_classifier("inhibitor", values=ValueLevels(3))
    plan = classifier.plan()
    inputs = random_inputs(classifier, 100)
    assert (simulated(plan, inputs) == plan.evaluate(inputs)).all()


def test_a_value_that_got_too_few_bits_is_refused(monkeypatch):
    monkeypatch.setattr(program.fhe, "hint", lambda x, bit_width: x)
    monkeypatch.setattr(program, "_corners", lambda plan: [plan.input.low])
    with pytest.raises(ValueError, match=r"Concrete gives it \d+ bits, its proven range needs"):
        compile_plan(random_classifier("inhibitor", tokens=2).plan())


@pytest.mark.parametrize("bits", [3, 4, 5])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("centered", [True, False], ids=["centered", "uncentered"])
def test_the_integer_specification(bits, signed, centered):
    """Simulated on 100 inputs and encrypted on 5, ends of the ranges among them; 1,000: benchmarks/encrypted.py."""
    scores = InhibitorScores(-1, 1, centered=centered)
    plan = EncryptedPlan(specification_graph(bits, 2, 1, scores, signed=signed))
    generator = np.random.default_rng(bits)
    inputs = generator.integers(plan.input.low, plan.input.high + 1, (100, *plan.input.shape))
    ends = np.where(generator.random((3, *plan.input.shape)) < 0.5, plan.input.low, plan.input.high)
    inputs = np.concatenate([ends, inputs])
    clear = plan.evaluate(inputs)
    assert (simulated(plan, inputs) == clear).all()
    assert (encrypted(plan, inputs[:5]) == clear[:5]).all()


def test_a_compilation_that_fails_writes_nothing(monkeypatch, tmp_path):
    """Concrete would leave the graph in the current folder."""
    graph = Graph(max_table_bits=17)
    graph.lookup("wide", graph.input("x", np.zeros(1, int), np.full(1, 2**17 - 1)), lambda x: x % 2)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="only up to 16-bit table lookups are supported"):
        compile_plan(EncryptedPlan(graph))
    assert list(tmp_path.iterdir()) == []


def test_private_search_needs_no_bootstrap():
    generator = np.random.default_rng(0)
    keys, query = generator.integers(0, 4, (100, 8)), generator.integers(0, 4, (2, 8))
    plan = EncryptedPlan(search_graph(keys, 3))
    assert compile_plan(plan).programmable_bootstrap_count == 0
    distances = encrypted(plan, thermometer(query, 3)[:, None])
    assert (distances == np.abs(query[:, None] - keys).sum(-1)).all()


def test_the_error_of_a_whole_example_is_within_what_was_asked():
    """Errors are simulated at a rate that shows: 1 in 5 at most, and not none."""
    classifier = random_classifier("inhibitor", seed=3)
    plan = classifier.plan()
    p_error = compile_plan(plan, global_p_error=0.2).p_error
    assert 1 - (1 - p_error) ** plan.bootstraps == pytest.approx(0.2, rel=0.25)
    inputs = random_inputs(classifier, 1000)
    wrong = (simulated(plan, inputs, 0.2) != plan.evaluate(inputs)).any(axis=(1, 2)).mean()
    assert 0 < wrong < 0.2
