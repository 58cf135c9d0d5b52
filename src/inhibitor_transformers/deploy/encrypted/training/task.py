"""What training needs to know of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..encoders import Encoder
from .model import Models


class Split(NamedTuple):
    """raw: what an encoder takes. labels: (N,) int64."""

    raw: Any
    labels: np.ndarray


class TrainingTask(ABC):
    """What differs between tasks.

    encoder: the client's; a task that learns it replaces it in `finish`. labels: names of the classes. test: for the
    last number only. vocabulary: the number of words, where inputs are words.
    """

    encoder: Encoder
    labels: tuple[str, ...]
    validation: Split
    test: Split
    vocabulary: int = 0

    @abstractmethod
    def batch(self, models: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` training examples for each of the models, (R, B, …), as `Models` takes them, and labels (R, B)."""

    def numbers(self, raw: Any) -> np.ndarray:
        """Raw inputs as `Models` takes them, without the axis of models."""
        return self.encoder.encode(raw)

    def finish(self, models: Models, model: int) -> Encoder:
        """The encoder of one trained model."""
        return self.encoder
