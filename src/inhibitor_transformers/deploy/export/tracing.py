"""Prepares a model for tracing: named tensors in, a plain dictionary out, and its dynamic axes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Tensors = dict[str, Tensor]

_LENGTHS = (1, 16, 33)
# Rows of a batch: nothing padded, padded behind, before, in between, and nothing but padding.
_ROWS = 5


class Traceable(nn.Module):
    """Only tensors go in and come out, so that whoever loads the result needs no class of transformers."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.between = (1,) if _takes_choices(model) else ()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensors:
        """int64 tensors of (batch, length), or (batch, choices, length) for multiple choice."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        # A choice becomes a row with one choice: transformers' own reshaping fixes that there are several of them.
        rows = {name: t if t is None else t.reshape(-1, *self.between, t.shape[-1]) for name, t in inputs.items()}
        out = {name: value for name, value in self.model(**rows).items() if isinstance(value, Tensor)}
        return {name: value.reshape(input_ids.shape[:2]) for name, value in out.items()} if self.between else out


def dynamic_axes(model: PreTrainedModel) -> dict[str, dict[int, str]]:
    """Inputs of the model, and the name of each axis."""
    choices = ["choices"] if _takes_choices(model) else []
    names = dict(enumerate(["batch", *choices, "length"]))
    segments = ["token_type_ids"] if model.config.type_vocab_size else []
    return dict.fromkeys(["input_ids", "attention_mask", *segments], names)


def sample_inputs(model: PreTrainedModel) -> Iterator[Tensors]:
    """Inputs of several shapes with padding of every kind, the same each time; the first serves for tracing.

    The last is as long as the model allows.
    """
    longest = model.config.max_position_embeddings
    generator = torch.Generator().manual_seed(0)
    yield _inputs(model, _ROWS, min(7, longest), generator)
    for length in _LENGTHS:
        yield _inputs(model, 2 if length == 1 else _ROWS, min(length, longest), generator)
    yield _inputs(model, 1, longest, generator)


def _inputs(model: PreTrainedModel, rows: int, length: int, generator: torch.Generator) -> Tensors:
    half, ones = torch.arange(length) < (length + 1) // 2, torch.ones(length, dtype=torch.bool)
    middle = torch.arange(length) % 3 != 1
    masks = torch.stack([ones, half, ~half, middle, ~ones])[:rows].long()
    config = model.config
    found = {
        "input_ids": torch.randint(config.vocab_size, masks.shape, generator=generator),
        "attention_mask": masks,
        "token_type_ids": torch.randint(max(config.type_vocab_size, 1), masks.shape, generator=generator),
    }
    axes = dynamic_axes(model)
    if _takes_choices(model):
        found = {name: torch.stack([value, value.roll(1, 0), value.flip(0)], dim=1) for name, value in found.items()}
    return {name: found[name] for name in axes}


def _takes_choices(model: PreTrainedModel) -> bool:
    return type(model).__name__.endswith("ForMultipleChoice")
