"""Masked-LM logits from hidden states, so that they can be computed at the masked positions alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel


def _distilbert(model: Any, hidden: Tensor) -> Tensor:
    return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(hidden))))


_LOGITS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": lambda model, hidden: model.cls(hidden),
    "roberta": lambda model, hidden: model.lm_head(hidden),
    "distilbert": _distilbert,
    "inhibidistilbert": _distilbert,
}


def masked_lm_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Vocabulary logits (..., vocab) of hidden states (..., dim) by the model's masked-LM head.

    Raises ValueError if the model has no such head.
    """
    if not type(model).__name__.endswith("ForMaskedLM") or model.config.model_type not in _LOGITS:
        raise ValueError(f"{type(model).__name__} has no masked-LM head that is known here; known: {sorted(_LOGITS)}")
    return _LOGITS[model.config.model_type](model, hidden)
