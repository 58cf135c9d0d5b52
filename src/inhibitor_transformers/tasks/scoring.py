"""Scores the predictions of a model on a task, by the task's metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .metrics import METRICS, Array
from .registry import Task


def compute_metrics(task: Task, predictions: Array, labels: Array | Sequence[float]) -> dict[str, float]:
    """The metrics named in `task.metrics`, in that order.

    predictions: logits (N, C), the largest of which is the predicted class; for a regression scores
    (N,) or (N, 1). labels: (N,) class ids or scores. F1 counts class 1 as positive, macro F1 is the
    plain mean over the classes that occur. Where a metric is undefined because predictions or labels
    are constant, correlations and MCC are 0. Raises ValueError for wrong shapes, for values that are
    not finite and for hidden labels.
    """
    truth = _check_labels(task, labels)
    scores = _check_predictions(task, predictions, len(truth))
    predicted = scores.reshape(-1) if task.is_regression else scores.argmax(axis=-1)
    return {name: float(METRICS[name].compute(truth, predicted)) for name in task.metrics}


def chance_level(task: Task, labels: Array | Sequence[float]) -> float:
    """Main metric of a constant prediction, which looks at no text.

    Accuracy: the fraction of the most frequent class. F1: that of always answering class 1, which is
    2p/(1 + p) for a fraction p of positives and the best that a constant answer reaches. Macro F1: that
    of always answering the most frequent class. MCC and correlations: 0. Raises ValueError.
    """
    truth, metric = _check_labels(task, labels), METRICS[task.main_metric]
    if metric.best_constant is None:
        return 0.0
    return float(metric.compute(truth, np.full(len(truth), metric.best_constant(truth))))


def _check_labels(task: Task, labels: Array | Sequence[float]) -> Array:
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


def _check_predictions(task: Task, predictions: Array, count: int) -> Array:
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
