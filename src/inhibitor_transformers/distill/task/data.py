"""The examples of a task: whether they can be trained on, and which of them choose the best epoch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from datasets import Dataset

from ...common.errors import ConfigError
from ...common.settings import require
from ...tasks import Task, TaskData, hold_out
from .arguments import FinetuneArguments

SELECTION = "selection"  # name of the held-out part of the training examples


class Examples(NamedTuple):
    """What is trained on, and the split that the best epoch is chosen by, with its name."""

    train: Dataset
    chosen_by: str
    selection: Dataset


def require_usable(data: TaskData, arguments: FinetuneArguments) -> None:
    """Raise ConfigError for a split that is missing or empty, a label that the task lacks, or too few for one batch."""
    require(bool(data.evaluation), f"{data.task.name}: there is no evaluation split to score by")
    for split, examples in {"train": data.train, **data.evaluation}.items():
        require(len(examples) > 0, f"{data.task.name}: the split {split} is empty")
        _require_columns(examples, data.task, split)
        _require_labels(examples, data.task, split)
    batch = arguments.per_device_train_batch_size * arguments.world_size
    require(
        not arguments.dataloader_drop_last or len(data.train) * (1 - arguments.selection_fraction) >= batch,
        f"dataloader_drop_last leaves nothing to train on: {len(data.train)} examples are less than a batch of {batch}",
    )


def split_selection(data: TaskData, arguments: FinetuneArguments) -> Examples:
    """Hold out `selection_fraction` of the training examples; with 0, the first evaluation split chooses.

    Raises ValueError for too few examples to hold some out.
    """
    if arguments.selection_fraction == 0:
        return Examples(data.train, *next(iter(data.evaluation.items())))
    train, held_out = hold_out(
        data.train,
        data.task,
        seed=arguments.seed,
        source=f"the training examples of {data.task.name}",
        fraction=arguments.selection_fraction,
    )
    return Examples(train, SELECTION, held_out)


def _require_columns(examples: Dataset, task: Task, split: str) -> None:
    missing = [name for name in (*task.text_columns, task.label_column) if name not in examples.column_names]
    require(not missing, f"{task.name}: the split {split} has no column {', '.join(missing)}")


def _require_labels(examples: Dataset, task: Task, split: str) -> None:
    given = examples[task.label_column][:]
    try:
        labels = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{task.name}: the split {split} has labels that are no numbers") from None
    known = np.isfinite(labels) if task.is_regression else np.isin(labels, np.arange(task.num_labels))
    if not known.all():
        row = int(np.argmin(known))
        wanted = "finite numbers" if task.is_regression else f"from 0 to {task.num_labels - 1}"
        raise ConfigError(f"{task.name}: labels must be {wanted}, got {given[row]!r} in row {row} of {split}")
