"""Plans of classifiers against their formulas, and what they cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.classifier import OUTPUT_BITS
from inhibitor_transformers.deploy.encrypted.levels import ValueLevels
from tests.deploy.encrypted.cases import KINDS, logits_by_formula, random_classifier, random_inputs

VALUES = [ValueLevels(2, signed=False), ValueLevels(1), ValueLevels(3), ValueLevels(7)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("values", VALUES, ids=str)
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("products", ["cheapest", "quarter_squares", "unpacked"])
def test_results_are_those_of_the_formulas(kind, tied, values, levels, products):
    if kind == "inhibitor" and products != "cheapest":
        pytest.skip("it has no products")
    classifier = random_classifier(kind, tied=tied, values=values, levels=levels)
    plan = classifier.plan(products=products)
    inputs = random_inputs(classifier, 40)
    results = plan.finish(plan.evaluate(inputs))
    assert results.tolist() == [logits_by_formula(classifier, x) for x in inputs]
    assert len({tuple(row) for row in results.tolist()}) > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 3, 5, 6])
def test_any_number_of_tokens(kind, tokens):
    classifier = random_classifier(kind, tokens=tokens, width=3)
    plan = classifier.plan()
    inputs = random_inputs(classifier, 20)
    assert plan.finish(plan.evaluate(inputs)).tolist() == [logits_by_formula(classifier, x) for x in inputs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_no_value_leaves_its_proven_range(kind, tied):
    """Every node on random inputs and on those that drive one projection to its ends."""
    classifier = random_classifier(kind, tied=tied, values=ValueLevels(3))
    plan = classifier.plan()
    inputs = random_inputs(classifier, 200)
    weights = [p.weight for p in (classifier.query, classifier.key, classifier.value) if p is not None]
    extremes = [np.where(w.T[:, None] * sign > 0, classifier.input_qmax, 0) for w in weights for sign in (1, -1)]
    inputs = np.concatenate([inputs, *(np.broadcast_to(x, (len(x), *inputs.shape[1:])) for x in extremes)])
    touched = 0
    for number, node in enumerate(plan.graph.nodes):
        values = plan.graph.evaluate(inputs, plan.graph.tensor(number))
        assert (values >= node.low).all(), node.name
        assert (values <= node.high).all(), node.name
        touched += node.bounds == (values.min(), values.max())
    assert touched > len(plan.graph.nodes) / 2  # bounds are near: most are reached


@pytest.mark.parametrize(
    ("tied", "values", "count"),
    [
        (False, ValueLevels(7), 4 * 4 * 8 // 2 + 4 * 4 + 4 * 4 * 8 + 3 * 4 * 8),
        (False, ValueLevels(2, signed=False), 4 * 4 * 8 // 2 + 4 * 4 + 4 * 4 * 8 // 2 + 3 * 4 * 8),
        (True, ValueLevels(2, signed=False), 6 * 8 // 2 + 6 + 4 * 4 * 8 // 2 + 2 * 4 * 8),
    ],
    ids=["signed", "two keys a table", "tied"],
)
def test_bootstraps(tied, values, count):
    """n²d/2 for |q − k|, two features a table; n² scores; n²d shrinkages or half of it; 3nd projections."""
    classifier = random_classifier("inhibitor", width=8, values=values, tied=tied, levels=3)
    assert classifier.plan().bootstraps == count


def test_bootstraps_of_dot_products():
    classifier = random_classifier("softmax", width=8, values=ValueLevels(7), levels=3)
    squares = 2 * 4 * 4 * 8 // 2 + 2 * 4 * 4 * 8  # two features a table, no two keys
    others = 2 * 16 + 4 + 3 * 32
    assert classifier.plan(products="quarter_squares").bootstraps == squares + others
    assert classifier.plan(products="unpacked").bootstraps == 4 * 4 * 4 * 8 + others
    assert classifier.plan().bootstraps == squares + others
    narrow = random_classifier("softmax", width=8, values=ValueLevels(2, signed=False), levels=3)
    assert narrow.plan().bootstraps == 2 * 4 * 4 * 8 + others  # one table for each product


def test_tables_that_are_too_wide_are_refused_by_name():
    classifier = random_classifier("inhibitor", levels=9, width=8)
    with pytest.raises(ValueError, match=r"^Z: its table would need 7 bits for inputs in \[0, 64\], more than 5"):
        classifier.plan()
    assert classifier.plan(max_table_bits=7).table_bits == 7


def test_tables_that_do_not_cover_the_sums_are_refused():
    classifier = random_classifier("inhibitor")
    query = dataclasses.replace(classifier.query, tables=classifier.query.tables[:, :-1])
    with pytest.raises(ValueError, match=r"^q: inputs in \[-15, 15\], but its table covers \[-15, 14\]"):
        dataclasses.replace(classifier, query=query).plan()


def test_a_head_of_another_shape_is_refused():
    classifier = random_classifier("inhibitor")
    with pytest.raises(ValueError, match=r"head \(3, 4, 3\)"):
        dataclasses.replace(classifier, head=classifier.head[:3]).plan()


def test_logits_are_dealt_out_to_parts():
    """As many as noise requires; every part is within its bits, and begins at 0."""
    classifier = random_classifier("inhibitor", width=8, tokens=8, values=ValueLevels(7))
    plan = classifier.plan()
    parts, classes = plan.output.shape
    assert parts > 1
    assert classes == 3
    assert (plan.output.low == 0).all()
    bits = np.ceil(np.log2(plan.output.high + 1)) + np.log2(plan.output.noise) / 2
    assert bits.max() <= OUTPUT_BITS
    inputs = random_inputs(classifier, 5)
    assert plan.finish(plan.evaluate(inputs)).tolist() == [logits_by_formula(classifier, x) for x in inputs]
