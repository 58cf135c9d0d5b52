"""Cuts a batch into parts of like length, so that short texts are not padded to the longest of the batch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def split_by_length(batch: Mapping[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """At most `parts` batches that hold the rows of `batch`, shortest texts first, without the padding all share.

    batch: tensors with the rows first; those of the shape (B, N) of `attention_mask` lose their padding columns.
    Batches that are drawn by length instead would not be random any more: where length says something of the label,
    their gradients are biased.
    """
    mask = batch["attention_mask"].bool()
    order = mask.sum(1).argsort(stable=True)
    return [_rows(batch, mask, rows) for rows in order.chunk(min(parts, len(order)))]


def _rows(batch: Mapping[str, Tensor], mask: Tensor, rows: Tensor) -> dict[str, Tensor]:
    used = mask[rows].any(0).nonzero()
    columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(None)
    return {name: t[rows][:, columns] if t.shape[:2] == mask.shape else t[rows] for name, t in batch.items()}
