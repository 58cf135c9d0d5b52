"""A teacher whose hidden states and contexts are read from disk instead of computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .teacher import Teacher, TeacherOutputs


class _Layers(Sequence[Tensor]):
    """Layer i is read when it is asked for."""

    def __init__(self, layers: int, read: Callable[[int], Tensor]) -> None:
        self._layers, self._read = layers, read

    def __len__(self) -> int:
        return self._layers

    def __getitem__(self, index: Any) -> Any:
        return self._read(range(self._layers)[index])  # IndexError beyond, as iteration expects


class CachedTeacher(Teacher):
    """Called as a teacher, with batches that carry in `rows`, (B,) int64, which of the stored rows they hold.

    Args:
        teacher: gave the stored values.
        arrays: "hidden-i" and "attention_outputs-i", (tokens of all rows, dim) each.
        lengths: tokens of every row.
    """

    def __init__(self, teacher: Teacher, arrays: Mapping[str, np.ndarray], lengths: Sequence[int]) -> None:
        super().__init__(teacher.model)
        self.arrays, self.lengths = arrays, np.asarray(lengths)
        self.starts = np.cumsum(self.lengths) - self.lengths

    def __call__(
        self, batch: Mapping[str, Tensor], *, attention_outputs: bool = False, hidden: bool = False
    ) -> TeacherOutputs:
        """As a teacher's, without logits. Raises ValueError if the batch holds other rows than it says."""
        rows, given = batch["rows"].tolist(), batch["attention_mask"].sum(-1).tolist()
        if self.lengths[rows].tolist() != given:
            raise ValueError(
                f"a batch of rows {rows} has {given} tokens, the stored rows {self.lengths[rows].tolist()}"
            )
        layers = self.model.config.num_hidden_layers
        read = partial(self._padded, rows, batch["input_ids"])
        return TeacherOutputs(
            hidden=_Layers(layers + 1, lambda i: read(f"hidden-{i}")) if hidden else (),
            attention_outputs=_Layers(layers, lambda i: read(f"attention_outputs-{i}")) if attention_outputs else (),
        )

    def _padded(self, rows: list[int], ids: Tensor, name: str) -> Tensor:
        array = self.arrays[name]
        padded = np.zeros((*ids.shape, array.shape[-1]), dtype=array.dtype)
        for place, row in enumerate(rows):
            start, length = self.starts[row], self.lengths[row]
            padded[place, :length] = array[start : start + length]
        return torch.from_numpy(padded).to(ids.device, self.model.dtype)
