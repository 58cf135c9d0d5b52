"""The order in which examples are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroups(Sampler[int]):
    """Every index once, those of texts of about equal length beside each other, so that little is padding.

    The order depends on the seed and the epoch alone: it is the same in every process and after a resume.
    Transformers' own sampler draws from the generator that dropout uses, and processes then part ways.

    Args:
        lengths: tokens of every example.
        group: examples of one step, over all processes and accumulated batches.
        epoch: gives the current epoch, asked whenever an order begins.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths, self.group, self.seed, self.epoch = list(lengths), group, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
        return iter(get_length_grouped_indices(self.lengths, self.group, generator=generator))
