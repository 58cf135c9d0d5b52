"""The official metrics of tasks, as fractions: accuracy and F1 in [0, 1], the others in [−1, 1].

A metric is added in one place: an entry of `METRICS`, which a `Task` may then name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .registry import Task

Array = NDArray[np.generic]


class Metric(NamedTuple):
    """How predictions are scored; the higher, the better.

    compute: value of truth and predictions, both (N,): class ids int64, or scores float64.
    best_constant: the class that scores best if it is the answer to everything, given the truth (N,); None where every
        constant answer scores 0.
    """

    compute: Callable[[Array, Array], float]
    best_constant: Callable[[Array], int] | None = None


def compute_metrics(task: Task, predictions: Array, labels: Array | Sequence[float]) -> dict[str, float]:
    """The metrics named in `task.metrics`, in that order.

    predictions: logits (N, C), the largest of which is the predicted class; for a regression scores
    (N,) or (N, 1). labels: (N,) class ids or scores. F1 counts class 1 as positive, macro F1 is the
    plain mean over the classes that occur. Where a metric is undefined because predictions or labels
    are constant, correlations and MCC are 0. Raises ValueError for wrong shapes, for values that are
    not finite and for hidden labels.
    """
    truth = _checked_labels(task, labels)
    scores = _checked_predictions(task, predictions, len(truth))
    predicted = scores.reshape(-1) if task.is_regression else scores.argmax(axis=-1)
    return {name: float(METRICS[name].compute(truth, predicted)) for name in task.metrics}


def chance_level(task: Task, labels: Array | Sequence[float]) -> float:
    """Main metric of a constant prediction, which looks at no text.

    Accuracy: the share of the most frequent class. F1: that of always answering class 1, which is
    2p/(1 + p) for a share p of positives and the best that a constant answer reaches. Macro F1: that
    of always answering the most frequent class. MCC and correlations: 0. Raises ValueError.
    """
    truth, metric = _checked_labels(task, labels), METRICS[task.main_metric]
    if metric.best_constant is None:
        return 0.0
    return float(metric.compute(truth, np.full(len(truth), metric.best_constant(truth))))


def _checked_labels(task: Task, labels: Array | Sequence[float]) -> Array:
    truth = np.asarray(labels)
    if truth.ndim != 1 or not truth.size:
        raise ValueError(f"labels must have shape (N,) with N > 0, got {truth.shape}")
    if not np.isfinite(truth).all():
        raise ValueError("labels contain NaN or infinity")
    if task.is_regression:
        return truth.astype(np.float64)
    classes = truth.astype(np.int64)
    if (classes != truth).any() or classes.min() < 0 or classes.max() >= task.num_labels:
        raise ValueError(
            f"labels of {task.name} must be class ids 0 to {task.num_labels - 1}, got {truth.min()} to {truth.max()} "
            "(negative: a split whose labels are hidden)"
        )
    return classes


def _checked_predictions(task: Task, predictions: Array, count: int) -> Array:
    if not isinstance(predictions, np.ndarray):
        raise ValueError(f"predictions must be one numpy array, got {type(predictions).__name__}")
    allowed = [(count,), (count, 1)] if task.is_regression else [(count, task.num_labels)]
    if predictions.shape not in allowed:
        raise ValueError(
            f"predictions of {task.name} must have shape {' or '.join(map(str, allowed))}, got {predictions.shape}"
        )
    if not np.isfinite(predictions).all():
        raise ValueError("predictions contain NaN or infinity; the model has diverged")
    return predictions.astype(np.float64)


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
