"""Images as `pixel_values`, through the model's image processor. Decoding needs Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import Batch, FileExamples
from .preprocessor import Preprocessor
from .source import Part, read_files

IMAGE_COLUMNS = ("image", "img", "pixel_values")


class ImageExamples(FileExamples):
    """Encoded images (JPEG, PNG …). inputs: `pixel_values` (B, 3, height, width) float32."""

    def __init__(self, files: Sequence[bytes], processor: Preprocessor, labels: Sequence[int] | None = None) -> None:
        super().__init__(files, labels)
        self.processor = processor

    def inputs(self, files: Sequence[bytes]) -> Batch:
        images = [decode_image(file) for file in files]
        return {"pixel_values": self.processor(images=images, return_tensors="pt")["pixel_values"]}


def load_images(
    source: str | Path,
    processor: Preprocessor,
    *,
    split: str = "train",
    part: Part = "all",
    label2id: dict[str, int] | None = None,
) -> ImageExamples:
    """The images of a split, in its order; arguments and errors as in `read_files`."""
    files, labels = read_files(source, split, IMAGE_COLUMNS, part, label2id)
    return ImageExamples(files, processor, labels)


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
