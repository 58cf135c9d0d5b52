"""Replaces modules of a model by quantized ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...attention.integer import QuantizedScalars
from ...attention.integer.qparams import Bits
from ..architectures import attention_layers, transformer_layers
from .embedding import Int8Embedding
from .linear import Int8FeedForward, Int8Linear, SharedInput


def linear_modules(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Linear modules of all transformer layers, by name; a task head is not among them and stays float."""
    return {
        f"{layer_name}.{name}": module
        for layer_name, layer in transformer_layers(model)
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    }


def word_embeddings(model: PreTrainedModel) -> tuple[str, nn.Embedding]:
    """The table of word embeddings and its name."""
    table = model.get_input_embeddings()
    return next((name, module) for name, module in model.named_modules() if module is table)


def require_float32(model: nn.Module, fn: Callable[[Tensor], Tensor]) -> None:
    """Raise ValueError if `fn`, which is to change all tensors of a quantized model, gives them another float type."""
    dtype = fn(torch.empty(0)).dtype
    if dtype != torch.float32 and any(
        isinstance(m, QuantizedScalars | Int8Linear | Int8Embedding) for m in model.modules()
    ):
        raise ValueError(
            f"a quantized model computes in float32 between its integers and cannot be made {dtype}; leave it as it is"
        )


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the one that the model has under `name`."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def join(model: PreTrainedModel) -> None:
    """Let quantized layers work together: q, k and v read the same quantized input, GELU stays in 8 bits."""
    for attention in attention_layers(model):
        readers: list[Any] = [attention.query, attention.key, attention.value]
        shared = SharedInput(len(readers))
        for reader in readers:
            reader.shared = shared
    if model.config.activation == "gelu":
        for _, layer in transformer_layers(model):
            layer.ffn = Int8FeedForward(layer.ffn.lin1, layer.ffn.lin2)


def put_empty(
    model: PreTrainedModel,
    *,
    bits: Bits,
    features: Sequence[int],
    quantized_linears: bool,
    quantized_embeddings: bool,
) -> None:
    """Replace modules by quantized ones without values, for a checkpoint to fill; `features` of each layer."""
    config = model.config
    for layer, count in zip(attention_layers(model), features, strict=True):
        heads, dim = config.n_heads, config.dim // config.n_heads
        layer.module.inhibitor = QuantizedScalars(
            heads, heads, dim, features=count, bits=bits, length_reference=config.inhibitor_length_reference
        )
    if quantized_linears:
        for name, linear in linear_modules(model).items():
            replace(model, name, Int8Linear(linear.in_features, linear.out_features, linear.bias is not None))
        join(model)
    if quantized_embeddings:
        name, table = word_embeddings(model)
        replace(model, name, Int8Embedding(table.num_embeddings, table.embedding_dim))
