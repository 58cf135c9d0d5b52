"""Loads pretrained models and tokenizers; refuses weights that transformers would silently initialize at random."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from ..common.paths import resolve_links
from ..common.progress import progress
from . import inhibidistilbert
from .conversion.classes import converted_class_named
from .loading import require_finite

# Weights from safetensors only, never pickles; code from this machine only, never from a checkpoint.
SAFE_LOADING: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}

_JSON_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", SAFE_WEIGHTS_INDEX_NAME)


def load_config(source: str | Path) -> PretrainedConfig:
    """The configuration of a model folder or Hub id. Raises ValueError if it cannot be read."""
    source = os.path.expanduser(source)
    with loading(source):
        config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    saved_by: Any = config.architectures
    if saved_by is not None and not (isinstance(saved_by, list) and all(isinstance(name, str) for name in saved_by)):
        raise ValueError(f"cannot load {source!r}: architectures in its config.json must list classes, got {saved_by}")
    return config


def load_tokenizer(source: str | Path, *, pad_with_end: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or Hub id.

    pad_with_end: whether one without a padding token, as decoders have, pads with its end token; masks say where.

    Raises ValueError if it has none, or one that cannot pad, or that knows tokens which the model does not.
    """
    source = os.path.expanduser(source)
    with loading(source, what="no tokenizer found in"):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes up from a config alone
        raise ValueError(f"no tokenizer found in {source!r}: it has no vocabulary")
    if tokenizer.pad_token_id is None and pad_with_end:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ValueError(f"the tokenizer of {source!r} has no padding token, which a batch of texts needs")
    if not Path(source).is_dir() or (Path(source) / "config.json").exists():
        require_known_tokens(tokenizer, load_config(source), repr(source))
    return tokenizer


def require_known_tokens(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, source: str) -> None:
    """Raise ValueError unless the model of `config` has an embedding for every token."""
    largest, known = max(tokenizer.get_vocab().values()), getattr(config, "vocab_size", None)
    if known is not None and largest >= known:
        raise ValueError(
            f"{source}: the tokenizer has token ids up to {largest}, the model embeddings for {known} tokens only; "
            "they do not belong together"
        )


@progress("loading a model")
def load_pretrained(source: str | Path, auto_class: type[Any] = AutoModel, *, encoder: bool = True) -> PreTrainedModel:
    """An encoder in evaluation mode, from a folder or Hub id, by one of transformers' Auto classes.

    encoder: False for models of any kind, decoders and encoder-decoders too.

    Raises ValueError if it cannot be loaded, if it is an encoder-decoder, if the checkpoint lacks weights that its
    outputs depend on, and if weights are NaN or infinite. A bare encoder may lack its pooler: hidden states do not
    depend on it.
    """
    source = os.path.expanduser(source)
    load_config(source)  # what transformers would not look at
    with loading(source):
        model, info = auto_class.from_pretrained(source, output_loading_info=True, **SAFE_LOADING)
    if encoder:
        require_encoder(model.config, source)
    missing = sorted(k for k in info["missing_keys"] if not (auto_class is AutoModel and k.startswith("pooler.")))
    if missing:
        what = "a masked-LM head" if auto_class is AutoModelForMaskedLM else f"the weights of {type(model).__name__}"
        raise ValueError(f"{source!r} does not have {what}: {', '.join(missing[:3])} would be random")
    require_finite(model, repr(source))
    return model.eval()


@progress("loading a model")
def load_as_saved(source: str | Path, *, encoder: bool = True) -> PreTrainedModel:
    """A model in evaluation mode with the head that it was saved with, from a folder or Hub id.

    encoder: False for models of any kind, decoders and encoder-decoders too.

    Raises ValueError if it cannot be loaded, or if weights are missing.
    """
    saved_by = str((load_config(source).architectures or [""])[0])
    known = [getattr(module, saved_by, None) for module in (inhibidistilbert, transformers)]
    models = (
        found
        for found in (*known, converted_class_named(saved_by))
        if isinstance(found, type) and issubclass(found, PreTrainedModel)
    )
    return load_pretrained(source, next(models, AutoModel), encoder=encoder)


def require_encoder(config: PretrainedConfig, source: str) -> None:
    """Raise ValueError for an encoder-decoder."""
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"{source!r} is an encoder-decoder ({config.model_type}); name an encoder, such as a DistilBERT, "
            "BERT or RoBERTa"
        )


@contextmanager
def loading(source: str, what: str = "cannot load") -> Iterator[None]:
    """While inside, whatever libraries raise over the files of `source` becomes a ValueError of one line.

    A broken checkpoint can fail them anywhere and with any exception, a KeyError in an index of shards for one.
    """
    where = resolve_links(source)
    if where.is_file():
        raise ValueError(f"{what} {source!r}: it is a file; name the folder of a model, with its config.json")
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} {source!r}: {_reason(error, where)}") from error


def _holds_json(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and (file.name != SAFE_WEIGHTS_INDEX_NAME or "weight_map" in found)


def _reason(error: Exception, folder: Path) -> str:
    told = str(error)
    if "trust_remote_code" in told:
        return "it needs code of its own, and code that comes with a checkpoint is never run here"
    if not folder.exists() and told.startswith("Repo id must"):
        return "there is no such folder, and it is no Hub id"
    if folder.is_dir() and not (folder / "config.json").exists():
        return "there is no config.json in this folder"
    if damaged := [name for name in _JSON_FILES if (folder / name).exists() and not _holds_json(folder / name)]:
        return f"{damaged[0]} in it is damaged"
    if pickles := sorted(path.name for path in folder.glob("*.bin")) if "model.safetensors" in told else []:
        return (
            f"its weights are in {pickles[0]}, a pickle, which could run any code and is never loaded; save them as "
            "safetensors (save_pretrained)"
        )
    if isinstance(error, SafetensorError):
        return f"its weights are damaged ({told.strip()})"
    lines = told.strip().split("\n")
    first = " ".join(lines).strip() if lines[0].endswith(":") else lines[0]
    return first.rstrip(" :") if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {first}"
