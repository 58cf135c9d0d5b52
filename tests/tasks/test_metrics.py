"""Metrics against numbers worked out by hand."""

import dataclasses
import math
import warnings

import numpy as np
import pytest

from inhibitor_transformers.tasks.registry import get_task
from inhibitor_transformers.tasks.scoring import compute_metrics

CUSTOM = dataclasses.replace(
    get_task("sst2"), name="custom", label_names=("a", "b", "c"), metrics=("accuracy", "macro_f1"), hub_id=None
)


def logits(classes, width=2):
    return np.eye(width, dtype=np.float32)[classes] * 3.0 - 1.0


# truth and answers below: 3 true positives, 1 false positive, 2 false negatives, 4 true negatives
TRUTH = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
ANSWERS = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_accuracy_f1_and_mcc_by_hand():
    assert compute_metrics(get_task("sst2"), logits(ANSWERS), TRUTH) == {"accuracy": pytest.approx(0.7)}
    f1 = 2 * 3 / (2 * 3 + 1 + 2)
    mrpc = compute_metrics(get_task("mrpc"), logits(ANSWERS), np.array(TRUTH))
    assert mrpc == {"f1": pytest.approx(f1), "accuracy": pytest.approx(0.7)}
    assert list(mrpc) == ["f1", "accuracy"]
    assert list(compute_metrics(get_task("qqp"), logits(ANSWERS), TRUTH)) == ["accuracy", "f1"]
    mcc = (3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6)
    assert compute_metrics(get_task("cola"), logits(ANSWERS), TRUTH) == {"matthews_correlation": pytest.approx(mcc)}


def test_macro_f1_by_hand():
    # class a: tp 1, fp 1, fn 0; b: tp 1, fp 0, fn 1; c: tp 1, fp 1, fn 1
    truth, answers = [0, 1, 1, 2, 2], [0, 1, 2, 2, 0]
    expected = (2 / 3 + 2 / 3 + 2 / 4) / 3
    got = compute_metrics(CUSTOM, logits(answers, 3), truth)
    assert got == {"accuracy": pytest.approx(0.6), "macro_f1": pytest.approx(expected)}


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_correlations_by_hand(shape):
    # deviations of labels (-1.5, -0.5, 0.5, 1.5), of predictions (-3, -2, 1, 4): 12 / sqrt(5 · 30)
    scores = np.array([0.0, 1.0, 4.0, 7.0], dtype=np.float32).reshape(shape)
    got = compute_metrics(get_task("stsb"), scores, [1.0, 2.0, 3.0, 4.0])
    assert got == {"pearson": pytest.approx(12 / math.sqrt(150)), "spearman": pytest.approx(1.0)}
    # ranks 1 2 3 4 against 2 1 4 3: 1 - 6 · 4 / (4 · 15)
    swapped = np.array([1.0, 0.0, 7.0, 4.0]).reshape(shape)
    assert compute_metrics(get_task("stsb"), swapped, [1.0, 2.0, 3.0, 4.0])["spearman"] == pytest.approx(0.6)


def test_signs_and_bounds():
    scores = np.array([3.0, 2.0, 1.0])
    assert compute_metrics(get_task("stsb"), scores, [0.0, 1.0, 2.0]) == {
        "pearson": pytest.approx(-1.0),
        "spearman": pytest.approx(-1.0),
    }
    wrong = [1 - label for label in TRUTH]
    assert compute_metrics(get_task("cola"), logits(wrong), TRUTH) == {"matthews_correlation": pytest.approx(-1.0)}


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "expected"),
    [
        ("stsb", np.full(4, 2.5), [0.0, 1.0, 2.0, 3.0], {"pearson": 0.0, "spearman": 0.0}),
        ("stsb", np.arange(3.0), [1.0, 1.0, 1.0], {"pearson": 0.0, "spearman": 0.0}),
        ("stsb", np.array([2.5]), [1.0], {"pearson": 0.0, "spearman": 0.0}),
        ("cola", logits([1] * 4), [0, 1, 1, 0], {"matthews_correlation": 0.0}),
        ("cola", logits([1] * 4), [1] * 4, {"matthews_correlation": 0.0}),
        ("mrpc", logits([0] * 4), [0, 1, 1, 0], {"f1": 0.0, "accuracy": 0.5}),
        ("mrpc", logits([0] * 4), [0] * 4, {"f1": 0.0, "accuracy": 1.0}),
    ],
)
def test_constant_answers_have_a_value_and_no_warning(task, predictions, labels, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute_metrics(get_task(task), predictions, labels) == expected
