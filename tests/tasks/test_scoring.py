"""Scores of constant answers, and predictions and labels that are refused."""

import dataclasses

import numpy as np
import pytest

from inhibitor_transformers.tasks.registry import get_task
from inhibitor_transformers.tasks.scoring import chance_level, compute_metrics
from tests.tasks.test_metrics import CUSTOM, logits


def test_chance_levels():
    assert chance_level(get_task("sst2"), [1, 1, 1, 0]) == 0.75
    assert chance_level(get_task("mnli"), [0, 1, 2, 2]) == 0.5
    assert chance_level(get_task("mrpc"), [1, 1, 1, 0]) == pytest.approx(2 * 0.75 / 1.75)
    assert chance_level(get_task("cola"), [1, 1, 0]) == 0.0
    assert chance_level(get_task("stsb"), [1.0, 2.5]) == 0.0
    assert chance_level(dataclasses.replace(CUSTOM, metrics=("macro_f1",)), [0, 0, 1]) == pytest.approx(0.4)


def test_no_constant_answer_beats_the_chance_level():
    labels = np.array([1, 1, 1, 0, 0])
    for name in ("sst2", "mrpc", "qqp", "cola"):
        task = get_task(name)
        constant = [compute_metrics(task, logits([c] * 5), labels)[task.main_metric] for c in (0, 1)]
        assert max(constant) == pytest.approx(chance_level(task, labels))


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "message"),
    [
        ("sst2", np.zeros((3, 2)), [0, 1], r"must have shape \(2, 2\), got \(3, 2\)"),
        ("sst2", np.zeros((2, 3)), [0, 1], r"must have shape \(2, 2\), got \(2, 3\)"),
        ("sst2", np.zeros(2), [0, 1], r"must have shape \(2, 2\), got \(2,\)"),
        ("stsb", np.zeros((2, 2)), [0.0, 1.0], r"must have shape \(2,\) or \(2, 1\), got \(2, 2\)"),
        ("sst2", (np.zeros((2, 2)), None), [0, 1], "must be one numpy array, got tuple"),
        ("sst2", np.full((2, 2), np.nan), [0, 1], "predictions contain NaN or infinity"),
        ("stsb", np.array([np.inf, 0.0]), [0.0, 1.0], "predictions contain NaN or infinity"),
        ("sst2", np.zeros((2, 2)), [0, -1], "class ids 0 to 1, got -1 to 0 .*hidden"),
        ("sst2", np.zeros((2, 2)), [0, 2], "class ids 0 to 1, got 0 to 2"),
        ("sst2", np.zeros((2, 2)), [0, 0.5], "class ids 0 to 1"),
        ("stsb", np.zeros(2), [0.0, np.nan], "labels contain NaN"),
        ("sst2", np.zeros((0, 2)), [], r"labels must have shape \(N,\) with N > 0, got \(0,\)"),
        ("sst2", np.zeros((2, 2)), [[0], [1]], r"labels must have shape \(N,\)"),
    ],
)
def test_bad_input(task, predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(get_task(task), predictions, labels)


def test_chance_level_checks_labels_too():
    with pytest.raises(ValueError, match="hidden"):
        chance_level(get_task("cola"), [-1, -1])
