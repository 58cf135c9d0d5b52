"""Loads what a run learns from."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..tasks.modalities import Preprocessor, load_audio, load_images
from ..tasks.modalities.example import tokenizer_of
from ..tasks.prose import english_on_this_machine
from ..tasks.text import THIS_MACHINE, Text, load_pairs, load_texts, split_held_out
from .config import DistillConfig
from .run_data import ExampleData, RunData, TextData

# What a model reads where a run gives it text, images or audio.
_INPUTS = {"text": ("input_ids",), "images": ("pixel_values",), "audio": ("input_values", "input_features")}


def load_run_data(config: DistillConfig, preprocessor: Preprocessor, model: PreTrainedModel) -> RunData:
    """What the settings name, without what is held out, prepared by the teacher's preprocessor for this model.

    Raises ValueError, also for data of a kind that the model does not read; FileNotFoundError, ConnectionError (Hub),
    ImportError (images without Pillow).
    """
    _require_read(config, model)
    if config.images is not None:
        return ExampleData(load_images(config.images, preprocessor, part="train"), preprocessor)
    if config.audio is not None:
        return ExampleData(load_audio(config.audio, preprocessor, part="train"), preprocessor)
    tokenizer = tokenizer_of(preprocessor)
    if tokenizer is None:
        raise ValueError(f"{config.teacher!r} reads no texts: it has no tokenizer")
    return TextData(_texts(config, tokenizer), tokenizer, preprocessor)


def _require_read(config: DistillConfig, model: PreTrainedModel) -> None:
    names = inspect.signature(model.forward).parameters
    read = [kind for kind, inputs in _INPUTS.items() if any(name in names for name in inputs)]
    given = next(kind for kind in _INPUTS if getattr(config, kind) is not None)
    if given not in read:
        what = " and ".join(read) or "none of text, images and audio"
        raise ValueError(f"{config.teacher!r}, a {type(model).__name__}, reads {what}, not {given}")


def _texts(config: DistillConfig, tokenizer: PreTrainedTokenizerBase) -> list[Text]:
    texts: list[Text] = []
    for source, count in config.sources:
        limits: dict[str, Any] = {"max_texts": count, "seed": config.seed}
        if source == THIS_MACHINE:
            texts += english_on_this_machine(**limits)
            continue
        limits |= {"unk_token": tokenizer.unk_token or "", "min_words": config.min_words}
        texts += load_texts(source, **limits)
        if config.row_pairs:
            texts += load_pairs(source, **limits)
    kept, _ = split_held_out(texts, fraction=config.held_out)
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(config.seed)).tolist()
    return [kept[i] for i in order]
