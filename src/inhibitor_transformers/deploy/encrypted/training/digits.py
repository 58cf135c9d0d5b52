"""The digits of scikit-learn: 1,797 images of 8 × 8 pixels 0 … 16, as a few tokens of pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..encoders import PixelEncoder
from .task import Split, TrainingTask

TEST_EXAMPLES = 360
VALIDATION_FRACTION = 0.2
_SIDE, _HIGHEST, _CLASSES = 8, 16, 10
_SHIFTED = 0.05  # the fraction of images that training moves by one pixel
_NOISE = 0.5  # standard deviation that training adds to pixels

Layout = Literal["quadrants", "rows"]


class Digits(TrainingTask):
    """tokens: 4 or 8. layout: of the pixels of a token; quadrants are blocks of 4 × 4 or 2 × 4."""

    def __init__(self, tokens: int = 4, input_qmax: int = 3, layout: Layout = "quadrants") -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        if tokens not in (4, 8):
            raise ValueError(f"digits are 4 or 8 tokens, got {tokens}")
        images, labels = load_digits(return_X_y=True)
        images, test_images, labels, test_labels = train_test_split(
            images, labels, test_size=TEST_EXAMPLES, stratify=labels, random_state=0
        )
        images, validation_images, labels, validation_labels = train_test_split(
            images, labels, test_size=VALIDATION_FRACTION, stratify=labels, random_state=0
        )
        self.encoder = PixelEncoder(pixel_order(tokens, layout), _HIGHEST, input_qmax)
        self.labels = tuple(map(str, range(_CLASSES)))
        self.validation = Split(validation_images, validation_labels)
        self.test = Split(test_images, test_labels)
        self._images, self._labels = torch.from_numpy(_shifts(images)), torch.from_numpy(labels)
        self._order = torch.from_numpy(self.encoder.order)

    def batch(self, models: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Some images moved by one pixel, all with noise, then quantized as the encoder does."""
        index = torch.randint(len(self._labels), (models, count), generator=generator)
        shift = torch.randint(len(self._images), (models, count), generator=generator)
        unmoved = torch.rand(models, count, generator=generator) >= _SHIFTED
        pixels = self._images[shift.masked_fill(unmoved, 0), index]
        pixels = pixels + _NOISE * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        qmax = self.encoder.input_qmax
        levels = torch.floor(pixels * (qmax + 1) / (_HIGHEST + 1)).clamp(0, qmax)
        return levels[..., self._order], self._labels[index]


def pixel_order(tokens: int, layout: Layout) -> np.ndarray:
    """(tokens, 64 / tokens) numbers of pixels."""
    pixels = np.arange(_SIDE * _SIDE).reshape(_SIDE, _SIDE)
    if layout == "rows":
        return pixels.reshape(tokens, -1)
    down = tokens // 2
    blocks = pixels.reshape(down, _SIDE // down, 2, _SIDE // 2).transpose(0, 2, 1, 3)
    return blocks.reshape(tokens, -1)


def _shifts(images: np.ndarray) -> np.ndarray:
    """(9, N, 64): the images, then moved by one pixel in each direction."""
    padded = np.pad(images.reshape(-1, _SIDE, _SIDE), ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), *((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1))]
    moved = [padded[:, y : y + _SIDE, x : x + _SIDE].reshape(len(images), -1) for y, x in moves]
    return np.stack(moved)
