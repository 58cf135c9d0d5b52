"""Trains a classifier that can run encrypted, and the encoder of its clients."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ..classifier import IntegerClassifier
from ..encoders import Encoder
from ..levels import ValueLevels
from ..saved import save_model
from .attention import KINDS, Kind
from .digits import Digits
from .model import Architecture, Models
from .recipe import RECIPES, Recipe, train_quantized, train_real
from .sst2 import Sst2
from .task import Split, TrainingTask

TaskName = Literal["digits", "sst2"]
DEFAULT_TOKENS = {"digits": 4, "sst2": 8}
DEFAULT_WIDTH = {"digits": 8, "sst2": 4}
EXAMPLES = 20  # of the test split that are kept with a model
_EVALUATION_BATCH = 512


class Trained(NamedTuple):
    """scores: accuracies 0 … 1: "float_validation" before quantization, "validation" and "test" of the integers.

    settings: what it was trained with; JSON can hold it. labels: names of the classes. examples: of the test split.
    """

    classifier: IntegerClassifier
    encoder: Encoder
    scores: dict[str, float]
    settings: dict[str, Any]
    labels: tuple[str, ...]
    examples: Split


def train_classifier(
    task: TaskName,
    *,
    attention: Kind = "inhibitor",
    tied: bool = False,
    tokens: int | None = None,
    width: int | None = None,
    levels: int = 3,
    value_levels: ValueLevels = ValueLevels(7, signed=True),  # noqa: B008, it is frozen
    head_qmax: int = 1,
    seed: int = 0,
    data: Path | None = None,
    recipe: Recipe | None = None,
) -> Trained:
    """Train restarts beside each other, keep the one that is best on validation, and read the test split once.

    Args:
        task: "digits" (of scikit-learn) or "sst2".
        attention, tied: the kind; tied: keys are the queries.
        tokens, width: n and d; None for the task's own (digits 4 × 8; sst2 8 × 4).
        levels, value_levels, head_qmax: of queries and keys, of values and scores, of the head's weights.
        data: the folder with SST-2's Parquet files, see `tasks.data.load_task`; digits need none.
        recipe: None for the task's own.

    Raises ValueError for settings that do not fit, before training; FileNotFoundError for data that is not there.
    """
    source = _task(task, tokens, data)
    n, inputs = source.encoder.shape
    if attention not in KINDS:
        raise ValueError(f"attention must be one of {list(KINDS)}, got {attention!r}")
    architecture = Architecture(
        kind=attention,
        tied=tied,
        tokens=n,
        inputs=inputs,
        width=DEFAULT_WIDTH[task] if width is None else width,
        classes=len(source.labels),
        input_qmax=source.encoder.input_qmax,
        levels=levels,
        value_levels=value_levels,
        head_qmax=head_qmax,
        pooled=isinstance(source, Sst2),
    )
    recipe = RECIPES[task] if recipe is None else recipe
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    models = Models(architecture, recipe.restarts, source.vocabulary)
    models.eval().classifier(0).plan()  # what no table can read is refused before training

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        return source.batch(recipe.restarts, recipe.batch, generator)

    real = train_real(models, batch, recipe)
    quantized = train_quantized(real, batch, recipe)
    best = _best(quantized, source)
    classifier, encoder = quantized.classifier(best), source.finish(quantized, best)
    scores = {
        "float_validation": float(_accuracies(real, source)[0][best]),
        "validation": accuracy(classifier, encoder, source.validation),
        "test": accuracy(classifier, encoder, source.test),
    }
    settings = {"task": task, "seed": seed, "architecture": asdict(architecture), "recipe": asdict(recipe)}
    raw, labels = source.test.raw, source.test.labels
    examples = Split(
        raw[:EXAMPLES].tolist() if isinstance(raw, np.ndarray) else list(raw[:EXAMPLES]), labels[:EXAMPLES]
    )
    return Trained(classifier, encoder, scores, settings, source.labels, examples)


def save_trained(folder: Path, trained: Trained) -> Path:
    """Write it with its encoder, its scores and examples of the test split, see `saved.save_model`."""
    info = {
        "labels": trained.labels,
        "scores": trained.scores,
        "settings": trained.settings,
        "example_labels": trained.examples.labels.tolist(),
    }
    return save_model(folder, trained.classifier, trained.encoder, info, list(trained.examples.raw))


def accuracy(classifier: IntegerClassifier, encoder: Encoder, split: Split) -> float:
    """Of the integers that encrypted inference computes; the first of equal logits is the answer."""
    return float((predict(classifier, encoder.encode(split.raw)).argmax(-1) == split.labels).mean())


def predict(classifier: IntegerClassifier, x: np.ndarray) -> np.ndarray:
    """Integer logits (B, C) of levels (B, n, I), in clear."""
    plan = classifier.plan()
    parts = [plan.evaluate(x[i : i + _EVALUATION_BATCH]) for i in range(0, len(x), _EVALUATION_BATCH)]
    return plan.finish(np.concatenate(parts))


def _task(task: TaskName, tokens: int | None, data: Path | None) -> TrainingTask:
    if task not in DEFAULT_TOKENS:
        raise ValueError(f"task must be one of {list(DEFAULT_TOKENS)}, got {task!r}")
    tokens = DEFAULT_TOKENS[task] if tokens is None else tokens
    if task == "digits":
        return Digits(tokens)
    if data is None:
        raise ValueError("sst2 needs the folder of its Parquet files: --data (data=)")
    return Sst2(data, tokens)


def _best(models: Models, source: TrainingTask) -> int:
    """The restart with the best accuracy on validation, of equal ones that with the least cross-entropy."""
    accuracies, entropies = _accuracies(models, source)
    return max(range(len(accuracies)), key=lambda r: (float(accuracies[r]), -float(entropies[r])))


@torch.no_grad()
def _accuracies(models: Models, source: TrainingTask) -> tuple[torch.Tensor, torch.Tensor]:
    """Accuracy and cross-entropy on validation, (R,) each."""
    restarts = len(models.head)
    numbers, labels = (
        torch.from_numpy(source.numbers(source.validation.raw)),
        torch.from_numpy(source.validation.labels),
    )
    right, entropy = torch.zeros(restarts, dtype=torch.float64), torch.zeros(restarts, dtype=torch.float64)
    for x, y in zip(numbers.split(_EVALUATION_BATCH), labels.split(_EVALUATION_BATCH), strict=True):
        logits = models(x.expand(restarts, *x.shape))[0]
        right += (logits.argmax(-1) == y).sum(1)
        losses = F.cross_entropy(models.class_logits(logits).flatten(0, 1), y.repeat(restarts), reduction="none")
        entropy += losses.reshape(restarts, -1).sum(1)
    return right / len(labels), entropy / len(labels)
