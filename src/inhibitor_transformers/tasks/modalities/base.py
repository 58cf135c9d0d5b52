"""What examples of every modality have in common: a length, and batches of any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ...common.progress import track

IGNORED = -100  # label of a position that does not count, as everywhere in torch and transformers
Batch = dict[str, Tensor]


class Examples(ABC):
    """Inputs of a model, prepared when a batch of them is asked for; the same indices always give the same batch."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Batch:
        """Keyword arguments of the model's forward, first dimension len(indices); `labels` where there are some."""


class FileExamples(Examples):
    """Encoded files, each with its bytes, with or without class ids; what they hold is the subclass's.

    A batch: what `inputs` gives, and `labels` (B,) int64 where there are class ids.
    """

    def __init__(self, files: Sequence[bytes], labels: Sequence[int] | None = None) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.files)

    @abstractmethod
    def inputs(self, files: Sequence[bytes]) -> Batch:
        """What the model reads of these files, first dimension len(files)."""

    def batch(self, indices: Sequence[int]) -> Batch:
        batch = self.inputs([self.files[i] for i in indices])
        return batch if self.labels is None else batch | {"labels": torch.tensor([self.labels[i] for i in indices])}


class Selection(Examples):
    """Some of other examples, in an order of their own."""

    def __init__(self, examples: Examples, order: Sequence[int]) -> None:
        self.examples, self.order = examples, order

    def __len__(self) -> int:
        return len(self.order)

    def batch(self, indices: Sequence[int]) -> Batch:
        return self.examples.batch([self.order[i] for i in indices])


def draw(examples: Examples, count: int | None = None, *, seed: int = 0) -> Selection:
    """`count` of the examples (None or too many: all) in random order, each once, the same for the same seed.

    Raises ValueError for a count below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"the number of examples must be at least 1, got {count}")
    return Selection(examples, np.random.default_rng(seed).permutation(len(examples))[:count].tolist())


def in_batches(examples: Examples, size: int, what: str = "reading examples") -> Iterator[Batch]:
    """All examples in their order, `size` in a batch, the last one smaller; `what` names the phase in progress."""
    starts = range(0, len(examples), size)
    for start in track(starts, what, unit="batches"):
        yield examples.batch(range(start, min(start + size, len(examples))))
