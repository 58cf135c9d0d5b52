"""In which order examples are drawn, and how a batch is cut into buckets of like length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
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


def with_own_generator(loader: DataLoader[Any]) -> DataLoader[Any]:
    """A loader draws a seed for its workers whenever it begins; by default from the generator of everything else."""
    inner: Any = loader
    inner.base_dataloader.generator = torch.Generator()
    return loader


def split_by_length(batch: Mapping[str, Tensor], buckets: int) -> list[dict[str, Tensor]]:
    """At most `buckets` batches that hold the sequences of `batch`, shortest first, without the padding that all share.

    batch: tensors with the sequences first; those of the shape (B, N) of `attention_mask` lose their padding columns.
    Batches that are drawn by length instead would not be random any more: where length correlates with the label,
    their gradients are biased.
    """
    mask = batch["attention_mask"].bool()
    order = mask.sum(1).argsort(stable=True)
    return [_select(batch, mask, members) for members in order.chunk(min(buckets, len(order)))]


def _select(batch: Mapping[str, Tensor], mask: Tensor, members: Tensor) -> dict[str, Tensor]:
    used = mask[members].any(0).nonzero()
    columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(None)
    return {name: t[members][:, columns] if t.shape[:2] == mask.shape else t[members] for name, t in batch.items()}
