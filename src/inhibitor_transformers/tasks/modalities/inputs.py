"""What a model's forward is given: of a batch what it reads, without a cache, and what its decoder has said so far."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

_MOST_TOKENS = 64  # that a decoder writes about a recording or an image


Written = dict[bytes, Tensor]  # by a digest of an example, the tokens (n,) that a decoder reads as it writes about it


def forward_inputs(
    model: PreTrainedModel, batch: Mapping[str, Tensor], written: Written | None = None
) -> dict[str, Any]:
    """The part of a batch that the model's forward names, without labels and without a cache.

    A decoder beside an encoder gets what it lacks: the text of the encoder, which it then repeats, or what the model
    itself writes about a recording or an image, token for token, in at most 64 tokens. Writing takes longer than a
    forward pass: what is in `written` is not written again, and what is new is added.
    """
    names = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name in names and name != "labels"}
    if has_decoder(model) and "decoder_input_ids" not in inputs:
        text = repeat_text(model, inputs) if "input_ids" in inputs else _texts(model, inputs, written)
        inputs |= {name: value for name, value in text.items() if name in names}
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


def _texts(model: PreTrainedModel, inputs: dict[str, Tensor], written: Written | None) -> dict[str, Tensor]:
    """What the model writes about each example, padded at the end, and a mask.

    Each alone, so that it does not depend on the batch.
    """
    known = {} if written is None else written
    count = len(next(iter(inputs.values())))
    examples = [{name: tensor[i : i + 1] for name, tensor in inputs.items()} for i in range(count)]
    digests = [_digest(example) for example in examples]
    known |= {key: _write(model, x) for key, x in zip(digests, examples, strict=True) if key not in known}
    texts = [known[key] for key in digests]
    ids = pad_sequence(texts, batch_first=True, padding_value=start_token(model))
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    return {"decoder_input_ids": ids, "decoder_attention_mask": mask}


@torch.no_grad()
def _write(model: PreTrainedModel, example: dict[str, Tensor]) -> Tensor:
    """The tokens (n,) that the decoder reads while the model writes greedily about one example, prompt included."""
    steps: list[Tensor] = []

    def read(_module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if ids.shape[1] > 1:  # a prompt: what came before, such as a look at the language, was another text
            steps.clear()
        steps.append(ids)

    hook = model.get_decoder().register_forward_pre_hook(read, with_kwargs=True)
    try:
        model.generate(**example, max_new_tokens=_MOST_TOKENS, do_sample=False, num_beams=1)
    finally:
        hook.remove()
    return torch.cat(steps, dim=1)[0]


def _digest(example: Mapping[str, Tensor]) -> bytes:
    content = hashlib.blake2b(digest_size=16)
    for tensor in example.values():
        content.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return content.digest()
