"""What prepares a model's inputs, as its own folder says: a tokenizer, an image processor, a feature extractor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, PreTrainedTokenizerBase

from ...models.pretrained import load_tokenizer, loading

Preprocessor = Any  # a tokenizer, an image processor, a feature extractor, or a processor that has several


def load_preprocessor(source: str | Path) -> Preprocessor:
    """The preprocessor of a model folder or Hub id. Raises ValueError where there is none."""
    source = os.path.expanduser(source)
    with loading(source, what="no tokenizer, image processor or feature extractor found in"):
        found = AutoProcessor.from_pretrained(source, trust_remote_code=False)
    return load_tokenizer(source, pad_with_end=True) if isinstance(found, PreTrainedTokenizerBase) else found


def audio_part(preprocessor: Preprocessor) -> Preprocessor:
    """The feature extractor of a processor that has several parts; any other preprocessor as it is."""
    part: Preprocessor = getattr(preprocessor, "feature_extractor", preprocessor)
    return part


def input_name(preprocessor: Preprocessor) -> str:
    """The input that a preprocessor makes: "input_ids", "pixel_values", "input_values" or "input_features"."""
    return str(audio_part(preprocessor).model_input_names[0])
