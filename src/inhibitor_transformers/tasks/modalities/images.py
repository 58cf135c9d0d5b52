"""Images as `pixel_values`, through the model's image processor. Decoding needs Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .base import Batch, Examples
from .preprocessor import Preprocessor
from .source import Part, class_ids, encoded_bytes, indices_of, read_split

IMAGE_COLUMNS = ("image", "img", "pixel_values")


class ImageExamples(Examples):
    """Encoded images (JPEG, PNG …) with or without class ids.

    A batch: `pixel_values` (B, 3, height, width) float32, and `labels` (B,) int64 where there are labels.
    """

    def __init__(self, files: Sequence[bytes], processor: Preprocessor, labels: Sequence[int] | None = None) -> None:
        self.files, self.processor, self.labels = files, processor, labels

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Batch:
        images = [decode_image(self.files[i]) for i in indices]
        batch = {"pixel_values": self.processor(images=images, return_tensors="pt")["pixel_values"]}
        return batch if self.labels is None else batch | {"labels": torch.tensor([self.labels[i] for i in indices])}


def load_images(
    source: str | Path,
    processor: Preprocessor,
    *,
    split: str = "train",
    part: Part = "all",
    label2id: dict[str, int] | None = None,
) -> ImageExamples:
    """The images of a split, in its order; `source`, `part` and errors as in `read_split` and `indices_of`."""
    rows, labels = read_split(source, split, IMAGE_COLUMNS)
    files, classes = encoded_bytes(rows, source), class_ids(labels, source, label2id)
    chosen = indices_of(part, files, source)
    return ImageExamples(
        [files[i] for i in chosen], processor, None if classes is None else [classes[i] for i in chosen]
    )


def decode_image(content: bytes) -> Any:
    """A PIL image in RGB. Raises ImportError without Pillow, ValueError for bytes that are no image."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError("images are decoded with Pillow: pip install 'inhibitor-transformers[images]'") from None
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"not an image that Pillow can decode ({error})") from None
