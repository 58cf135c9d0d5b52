"""Which modules of a model are quantized, and what stands in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...attention.integer import QuantizedScalars
from ...attention.integer.qparams import Bits
from .embedding import Int8Embedding
from .linear import Int8FeedForward, Int8Linear, SharedInput


def blocks(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """(name, transformer block) of a DistilBERT or InhibiDistilBERT model with any head."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and name.endswith("transformer.layer"):
            yield from ((f"{name}.{i}", block) for i, block in enumerate(module))


def linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The linear layers of all transformer blocks by name. Heads stay as they are: small, and the last word."""
    return {
        f"{block_name}.{name}": module
        for block_name, block in blocks(model)
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear)
    }


def attentions(model: PreTrainedModel) -> dict[str, Any]:
    """The attention layers with inhibitor attention, by name."""
    found = ((f"{name}.attention", block.attention) for name, block in blocks(model))
    return {name: attention for name, attention in found if hasattr(attention, "inhibitor")}


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
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def join(model: PreTrainedModel) -> None:
    """Let quantized layers work together: q, k and v read the same quantized input, GELU stays in 8 bits."""
    for _, block in blocks(model):
        attention, ffn = block.attention, block.ffn
        attention.q_lin.shared = attention.k_lin.shared = attention.v_lin.shared = SharedInput(readers=3)
        if model.config.activation == "gelu":
            block.ffn = Int8FeedForward(ffn.lin1, ffn.lin2)


def put_empty(model: PreTrainedModel, *, bits: Bits, quantized_linears: bool, quantized_embeddings: bool) -> None:
    """Put quantized modules, to be loaded, in their places."""
    config = model.config
    for name in attentions(model):
        heads, dim = config.n_heads, config.dim // config.n_heads
        empty = QuantizedScalars(heads, heads, dim, bits=bits, length_reference=config.inhibitor_length_reference)
        replace(model, f"{name}.inhibitor", empty)
    if quantized_linears:
        for name, linear in linears(model).items():
            replace(model, name, Int8Linear(linear.in_features, linear.out_features, linear.bias is not None))
        join(model)
    if quantized_embeddings:
        name, table = word_embeddings(model)
        replace(model, name, Int8Embedding(table.num_embeddings, table.embedding_dim))
