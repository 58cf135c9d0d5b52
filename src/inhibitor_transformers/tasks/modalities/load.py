"""Examples of whatever modality a preprocessor is for."""

from __future__ import annotations

from pathlib import Path

from .audio import load_audio
from .base import Examples
from .images import load_images
from .preprocessor import Preprocessor, input_name
from .source import Part
from .text import load_packed_text, load_text


def load_examples(
    source: str | Path,
    preprocessor: Preprocessor,
    *,
    split: str = "train",
    part: Part = "all",
    length: int = 256,
    packed: bool = False,
    label2id: dict[str, int] | None = None,
) -> Examples:
    """A split of texts, images or recordings as inputs of the model that `preprocessor` belongs to, in its order.

    Args:
        source: a data file, a folder with a file for each split, or a Hub id.
        part: "train" or "held_out" (a tenth, by a hash of the content: no training sees it), or "all".
        length: of texts, the tokens of an example at most; exactly so many where they are packed.
        packed: of texts, whether they are one stream of tokens, as decoders read them.
        label2id: of images and recordings, the model's classes, where labels are names.

    Raises FileNotFoundError, ValueError, ConnectionError (Hub), ImportError (images without Pillow).
    """
    match input_name(preprocessor):
        case "pixel_values":
            return load_images(source, preprocessor, split=split, part=part, label2id=label2id)
        case "input_values" | "input_features":
            return load_audio(source, preprocessor, split=split, part=part, label2id=label2id)
        case "input_ids" if packed:
            return load_packed_text(source, preprocessor, length=length, split=split, part=part)
        case "input_ids":
            return load_text(source, preprocessor, max_length=length, split=split, part=part)
        case other:
            raise ValueError(f"a preprocessor that makes {other!r} is for no modality that is known here")
