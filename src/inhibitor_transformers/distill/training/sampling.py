"""The order of training examples as a function of the seed and the epoch, so that an interrupted run finds it again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class LengthGroups(LengthGroupedSampler):
    """Trainer's group_by_length; its own order is drawn from whatever torch's generator has come to.

    Args:
        batch_size: examples that are of like length.
        lengths: of all examples, in tokens.
        seed: with the epoch, which `set_epoch` tells, it decides the order.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        order: Iterator[int] = super().__iter__()
        return order
