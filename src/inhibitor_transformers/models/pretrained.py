"""Loads pretrained models and tokenizers; refuses weights that transformers would quietly make up."""

from __future__ import annotations

from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..common.progress import progress
from . import inhibidistilbert
from .finite_weights import require_finite

# Weights from safetensors only, never pickles; code from this machine only, never from a checkpoint.
SAFE_LOADING: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or Hub id. Raises ValueError if it has none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no tokenizer found in {source!r}: {_first_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes up from a config alone
        raise ValueError(f"no tokenizer found in {source!r}: it has no vocabulary")
    return tokenizer


@progress("loading a model")
def load_pretrained(source: str, auto_class: type[Any] = AutoModel) -> PreTrainedModel:
    """A model in evaluation mode, from a folder or Hub id, by one of transformers' Auto classes.

    Raises ValueError if it cannot be loaded, if the checkpoint lacks weights that its outputs depend on, and if weights
    are NaN or infinite. A bare encoder may lack its pooler: hidden states do not depend on it.
    """
    try:
        model, info = auto_class.from_pretrained(source, output_loading_info=True, **SAFE_LOADING)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"cannot load {source!r}: {_first_line(error)}") from error
    missing = sorted(k for k in info["missing_keys"] if not (auto_class is AutoModel and k.startswith("pooler.")))
    if missing:
        what = "a masked-LM head" if auto_class is AutoModelForMaskedLM else f"the weights of {type(model).__name__}"
        raise ValueError(f"{source!r} does not have {what}: {', '.join(missing[:3])} would be random")
    require_finite(model, repr(source))
    return model.eval()


@progress("loading a model")
def load_as_saved(source: str) -> PreTrainedModel:
    """A model in evaluation mode with the head that it was saved with, from a folder or Hub id.

    Raises ValueError if it cannot be loaded, or if weights are missing.
    """
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load {source!r}: {_first_line(error)}") from error
    saved_by = (config.architectures or [""])[0]
    known = (getattr(module, saved_by, None) for module in (inhibidistilbert, transformers))
    return load_pretrained(source, next((found for found in known if found is not None), AutoModel))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(" :")
