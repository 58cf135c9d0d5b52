"""The official metrics of tasks, as fractions: accuracy and F1 in [0, 1], the others in [−1, 1].

A metric is added in one place: an entry of `METRICS`, which a `Task` may then name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


class Metric(NamedTuple):
    """How predictions are scored; the higher, the better.

    compute: value of truth and predictions, both (N,): class ids int64, or scores float64.
    best_constant: the class that scores best if it is the answer to everything, given the truth (N,); None where every
        constant answer scores 0.
    """

    compute: Callable[[Array, Array], float]
    best_constant: Callable[[Array], int] | None = None


def _accuracy(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth, predicted))


def _f1(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, labels=[1], average="macro", zero_division=0.0))


def _macro_f1(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro", zero_division=0.0))


def _matthews_correlation(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        # "A single label was found": the documented value of a constant answer is the 0 it returns.
        warnings.simplefilter("ignore", UserWarning)
        return float(matthews_corrcoef(truth, predicted))


def _pearson(truth: Array, predicted: Array) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _either_constant(truth, predicted) else float(pearsonr(truth, predicted).statistic)


def _spearman(truth: Array, predicted: Array) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _either_constant(truth, predicted) else float(spearmanr(truth, predicted).statistic)


def _either_constant(truth: Array, predicted: Array) -> bool:
    return bool(np.ptp(truth) == 0 or np.ptp(predicted) == 0)


def _most_frequent(truth: Array) -> int:
    return int(np.bincount(truth.astype(np.int64)).argmax())


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy, _most_frequent),
    "f1": Metric(_f1, lambda truth: 1),
    "macro_f1": Metric(_macro_f1, _most_frequent),
    "matthews_correlation": Metric(_matthews_correlation),
    "pearson": Metric(_pearson),
    "spearman": Metric(_spearman),
}
