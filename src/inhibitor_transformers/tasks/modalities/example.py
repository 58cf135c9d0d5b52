"""A made-up batch that a model reads, by which `convert` finds its attention: text, an image, a second of noise."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, SequenceFeatureExtractor

from .base import Batch
from .inputs import has_decoder, repeat_text, start_token
from .preprocessor import Preprocessor

_TEXTS = (
    "The museum keeps its paintings in a cold room, because the paint would suffer in the sun. Whoever wants to see "
    "them has to wait until the evening, when the guard lights a small lamp and leads the visitors from wall to wall.",
    "A short text, so that there is padding.",
)
_LONGEST = 64  # tokens
_PIXELS = 64  # of an image before it is prepared


def example_batch(model: PreTrainedModel, preprocessor: Preprocessor) -> Batch:
    """Two examples of everything that the model's forward reads and its preprocessor makes.

    Raises ValueError if the preprocessor makes nothing that the model reads.
    """
    names = inspect.signature(model.forward).parameters
    batch: dict[str, Tensor] = {}
    for part in _parts(preprocessor):
        made = _prepare(part, model)
        batch |= {name: tensor for name, tensor in made.items() if name in names}
    if not batch:
        raise ValueError(f"{type(preprocessor).__name__} prepares nothing that {type(model).__name__} reads")
    if has_decoder(model) and "input_ids" in batch:
        return batch | repeat_text(model, batch)
    if has_decoder(model):
        batch["decoder_input_ids"] = torch.tensor([[start_token(model), *range(1, 8)]] * 2)
    return batch


def tokenizer_of(preprocessor: Preprocessor) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a processor, or the tokenizer that it is."""
    found = getattr(preprocessor, "tokenizer", preprocessor)
    return found if isinstance(found, PreTrainedTokenizerBase) else None


def _parts(preprocessor: Preprocessor) -> list[Any]:
    held = [getattr(preprocessor, name, None) for name in ("tokenizer", "image_processor", "feature_extractor")]
    return [part for part in held if part is not None] or [preprocessor]


def _prepare(part: Any, model: PreTrainedModel) -> dict[str, Tensor]:
    random = np.random.default_rng(0)
    if isinstance(part, PreTrainedTokenizerBase):
        longest = min(_LONGEST, getattr(model.config, "max_position_embeddings", None) or _LONGEST)
        padding = {"padding": True} if part.pad_token_id is not None else {}
        texts = list(_TEXTS) if padding else list(_TEXTS[:1])
        return dict(part(texts, truncation=True, max_length=longest, return_tensors="pt", **padding))
    if isinstance(part, SequenceFeatureExtractor):
        noise = [0.1 * random.standard_normal(part.sampling_rate).astype(np.float32) for _ in range(2)]
        return dict(part(noise, sampling_rate=part.sampling_rate, return_tensors="pt"))
    if "pixel_values" in getattr(part, "model_input_names", ()):
        images = [random.integers(0, 256, (_PIXELS, _PIXELS, 3), dtype=np.uint8) for _ in range(2)]
        return {"pixel_values": part(images=images, return_tensors="pt")["pixel_values"]}
    return {}
