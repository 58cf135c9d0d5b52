"""Small tasks, and what fine-tunes a tiny model on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from inhibitor_transformers.distill.task import FinetuneArguments, FinetuneResult, FineTuning
from inhibitor_transformers.tasks import TaskData, load_task
from tests.distill.tiny import BAD, GOOD, NOUNS

FAST = {
    "num_train_epochs": 2,
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 16,
    "max_length": 32,
    "logging_steps": 2,
    "use_cpu": True,
    "disable_tqdm": True,
}


def write(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def custom(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> TaskData:
    write(folder, "train", train)
    write(folder, "validation", validation)
    return load_task("custom", folder)


def pairs(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Two texts and whether the second repeats the first: only the segments tell one text from the other."""
    random = np.random.default_rng(seed)
    rows = []
    for label in random.integers(0, 2, size=count):
        first = random.choice(NOUNS, size=4, replace=False)
        second = first if label else random.choice(NOUNS, size=4, replace=False)
        rows.append({"text1": "the " + " ".join(first), "text2": "the " + " ".join(second), "label": int(label)})
    return rows


def ratings(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Texts with a score: the share of good among the good and bad words, from 0 to 5."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        good = int(random.integers(0, 5))
        words = [*random.choice(GOOD, size=good), *random.choice(BAD, size=4 - good)]
        rows.append({"text": "it " + " ".join(words), "label": f"{5 * good / 4:.2f}"})
    return rows


def run(source: str, data: TaskData, output: Path, **settings: Any) -> FinetuneResult:
    names = ("teacher_source", "teacher_base", "resume", "overwrite", "log")
    flags = {name: settings.pop(name) for name in names if name in settings}
    arguments = FinetuneArguments(output_dir="unused", **(FAST | settings))
    return FineTuning(source, data, arguments, output, **({"log": lambda _: None} | flags)).run()


class StoppedError(Exception):
    """What interrupts a run."""
