"""Reads what every attention layer hands to its output projection: the context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import PreTrainedModel

# Output projection of layer {i}, below the encoder, by architecture.
_PROJECTIONS = {
    "bert": "encoder.layer.{i}.attention.output.dense",
    "roberta": "encoder.layer.{i}.attention.output.dense",
    "distilbert": "transformer.layer.{i}.attention.out_lin",
    "inhibidistilbert": "transformer.layer.{i}.attention.out_lin",
}


def output_projections(model: PreTrainedModel) -> list[nn.Module]:
    """The attention output projection of each layer, first layer first.

    Raises ValueError for an architecture whose projections are not known here.
    """
    pattern = _PROJECTIONS.get(model.config.model_type)
    if pattern is None:
        raise ValueError(
            f"contexts of a {model.config.model_type!r} model cannot be read; known: {sorted(_PROJECTIONS)}"
        )
    encoder = model.base_model
    return [encoder.get_submodule(pattern.format(i=i)) for i in range(model.config.num_hidden_layers)]


@contextmanager
def record_attention_outputs(projections: list[nn.Module]) -> Iterator[list[Tensor]]:
    """While inside, every call of a projection appends its input, (B, N, heads · head size), to the list."""
    attention_outputs: list[Tensor] = []
    handles = [p.register_forward_pre_hook(lambda _, args: attention_outputs.append(args[0])) for p in projections]
    try:
        yield attention_outputs
    finally:
        for handle in handles:
            handle.remove()
