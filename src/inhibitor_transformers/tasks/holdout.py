"""Holds out training examples, and samples subsets of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .registry import Task

if TYPE_CHECKING:
    from datasets import Dataset

HELD_OUT_FRACTION = 0.2


def hold_out(
    dataset: Dataset, task: Task, *, seed: int, source: str, fraction: float = HELD_OUT_FRACTION
) -> tuple[Dataset, Dataset]:
    """(train, held out): a stratified `fraction` of the examples, the same for the same seed.

    Stratified by class (regression: drawn at random). Examples with identical texts stay on one
    side, so that nothing held out is trained on. Raises ValueError when there are too few.
    """
    first_index: dict[tuple[str, ...], int] = {}
    texts = zip(*(dataset[name][:] for name in task.text_columns), strict=True)
    group = np.array([first_index.setdefault(text, i) for i, text in enumerate(texts)])
    labels = np.zeros(len(dataset)) if task.is_regression else np.asarray(dataset[task.label_column][:])
    rng = np.random.default_rng(seed)
    held_groups: list[int] = []
    for label in np.unique(labels):
        members = np.unique(group[labels[group] == label])
        count = round(fraction * len(members)) or int(len(members) > 1)
        held_groups.extend(rng.permutation(members)[:count])
    held = np.isin(group, held_groups)
    if not held.any() or held.all():
        raise ValueError(f"{source}: {len(dataset)} example(s) are too few to hold some out for evaluation")
    return dataset.select(np.flatnonzero(~held)), dataset.select(np.flatnonzero(held))


def shuffled_subset(dataset: Dataset, count: int | None, seed: int) -> Dataset:
    """All examples in random order, or the first `count` of them."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.select(order[:count])


def ordered_subset(dataset: Dataset, count: int | None, seed: int) -> Dataset:
    """The dataset as it is, or `count` random examples of it in their original order."""
    if count is None or count >= len(dataset):
        return dataset
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.select(np.sort(order[:count]))
