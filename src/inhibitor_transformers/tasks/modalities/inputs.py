"""What a model's forward is given: of a batch what it reads, without a cache, and what its decoder has said so far."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

_MOST_TOKENS = 64  # that a decoder writes about a recording or an image


def forward_inputs(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of a batch that the model's forward names, without labels and without a cache.

    A decoder beside an encoder gets what it lacks: the text of the encoder, which it then repeats, or what the model
    itself writes about a recording or an image, token for token, in at most 64 tokens.
    """
    names = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name in names and name != "labels"}
    if has_decoder(model) and "decoder_input_ids" not in inputs:
        inputs |= repeat_text(model, inputs) if "input_ids" in inputs else _written(model, inputs)
    return inputs | ({"use_cache": False} if "use_cache" in names else {})


def has_decoder(model: PreTrainedModel) -> bool:
    """Whether the model's forward has a decoder's tokens beside what its encoder reads."""
    given = "decoder_input_ids" in inspect.signature(model.forward).parameters
    return given and bool(getattr(model.config, "is_encoder_decoder", False))


def start_token(model: PreTrainedModel) -> int:
    """What a decoder's text begins with."""
    config = model.config
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    return next((int(found) for name in names if (found := getattr(config, name, None)) is not None), 0)


def repeat_text(model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's tokens one place to the right, behind the start token."""
    ids = inputs["input_ids"]
    shifted = torch.cat([torch.full_like(ids[:, :1], start_token(model)), ids[:, :-1]], dim=1)
    mask = inputs.get("attention_mask")
    return {"decoder_input_ids": shifted} | ({} if mask is None else {"decoder_attention_mask": mask})


@torch.no_grad()
def _written(model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """The tokens that the decoder reads while the model writes greedily, prompt included: up to the end token."""
    steps: list[Tensor] = []

    def read(_module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if ids.shape[1] > 1:  # a prompt: what came before, such as a look at the language, was another text
            steps.clear()
        steps.append(ids)

    hook = model.get_decoder().register_forward_pre_hook(read, with_kwargs=True)
    try:
        model.generate(**inputs, max_new_tokens=_MOST_TOKENS, do_sample=False, num_beams=1)
    finally:
        hook.remove()
    ids = torch.cat(steps, dim=1)
    end = torch.as_tensor(model.generation_config.eos_token_id, device=ids.device).reshape(-1)
    ended = torch.isin(ids[:, 1:], end).cumsum(1) > 0
    mask = torch.cat([torch.ones_like(ids[:, :1]), (~ended).to(ids.dtype)], dim=1)
    accepted = inspect.signature(model.forward).parameters
    return {"decoder_input_ids": ids} | (
        {"decoder_attention_mask": mask} if "decoder_attention_mask" in accepted else {}
    )
