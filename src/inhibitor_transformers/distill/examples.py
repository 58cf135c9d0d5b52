"""Images and recordings as batches of one step each, without their labels."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..tasks.modalities import AudioExamples, ImageExamples


class ExampleBatches(Dataset[dict[str, Tensor]]):
    """One item per training step: `size` examples, drawn without replacement in every epoch.

    Item i is the same whenever it is asked for, so an interrupted run resumes exactly. `labels`, (B,) zeros, say that
    each example counts once; those of the data are left out.

    Raises ValueError for a batch of more examples than there are.
    """

    def __init__(self, examples: ImageExamples | AudioExamples, *, steps: int, size: int, seed: int = 0) -> None:
        if size > len(examples):
            raise ValueError(f"examples_per_step ({size}) is more than the {len(examples)} examples that there are")
        self.examples, self.steps, self.size, self.seed = examples, steps, size, seed
        self.per_epoch = len(examples) // size
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        epoch, place = divmod(index, self.per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
        return unlabeled(self.examples, self._order[1][place * self.size : (place + 1) * self.size].tolist())


def unlabeled(examples: ImageExamples | AudioExamples, indices: list[int]) -> dict[str, Tensor]:
    """A batch whose labels say no more than that each example counts."""
    return examples.batch(indices) | {"labels": torch.zeros(len(indices), dtype=torch.int64)}


def digests(examples: ImageExamples | AudioExamples) -> list[str]:
    """A short hash of each encoded example."""
    return [hashlib.blake2b(content, digest_size=8).hexdigest() for content in examples.files]
