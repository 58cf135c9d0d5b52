"""What the tests of losses share: batches row by row without padding, and errors from their definition."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tests.distill.tiny import padded_batch

ROWS = [9, 14, 11]
BATCHES = (padded_batch(ROWS), padded_batch([20, 7], seed=1))


def rows_of(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Each row as a batch of its own, cut to its tokens."""
    rows = []
    for i, n in enumerate(batch["attention_mask"].sum(1).tolist()):
        inputs = {name: tensor[i : i + 1, :n] for name, tensor in batch.items() if tensor.dim() == 2}
        rows.append(inputs | {name: tensor[i : i + 1] for name, tensor in batch.items() if tensor.dim() == 1})
    return rows


def squared(a: Tensor, b: Tensor) -> float:
    """Σ over tokens of the mean squared difference."""
    return float((a.double() - b.double()).square().mean(-1).sum())


def with_other_padding(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch | {"input_ids": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 17)}


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def all_rows(batches: Iterable[dict[str, Tensor]] = BATCHES) -> list[dict[str, Tensor]]:
    return [row for batch in batches for row in rows_of(batch)]
