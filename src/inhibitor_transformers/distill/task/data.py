"""Whether the examples of a task, read from files or made by hand, can be trained on."""

from __future__ import annotations

import numpy as np
from datasets import Dataset

from ...common.errors import ConfigError
from ...common.settings import require
from ...tasks import Task, TaskData
from .arguments import FinetuneArguments


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
