"""Batches of model inputs from texts, images and recordings, prepared as a model's own folder says.

`load_examples` reads a split from a folder, a file or the Hub; what it makes of it depends on the preprocessor: a
tokenizer, an image processor or a feature extractor.
"""

from .audio import AudioExamples, load_audio
from .base import IGNORED, Examples, Selection, draw, in_batches
from .images import ImageExamples, load_images
from .load import load_examples
from .preprocessor import Preprocessor, load_preprocessor
from .text import MaskedTokens, PackedText, TextExamples, load_packed_text, load_text

__all__ = [
    "IGNORED",
    "AudioExamples",
    "Examples",
    "ImageExamples",
    "MaskedTokens",
    "PackedText",
    "Preprocessor",
    "Selection",
    "TextExamples",
    "draw",
    "in_batches",
    "load_audio",
    "load_examples",
    "load_images",
    "load_packed_text",
    "load_preprocessor",
    "load_text",
]
