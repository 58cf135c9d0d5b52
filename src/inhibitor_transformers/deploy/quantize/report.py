"""Measures what quantization costs on texts that it was not calibrated on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...evaluation.similarity import embed
from ...report import Table
from .texts import require_max_length


def cost_table(
    model: PreTrainedModel,
    quantized: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int = 128,
) -> Table:
    """Size of both models, and how near the embeddings of `texts` are (mean and least cosine).

    max_length: tokens of a text that are read; of a model that reads fewer, as many as it can.
    """
    require_max_length(max_length, tokenizer, is_pair=False)
    length = min(max_length, model.config.max_position_embeddings)
    ours, theirs = (embed(m.base_model, tokenizer, list(texts), max_length=length) for m in (quantized, model))
    cosines = (ours * theirs).sum(-1)
    rows = [
        ["float", f"{megabytes(model):.1f}", "1", "1"],
        ["quantized", f"{megabytes(quantized):.1f}", f"{cosines.mean():.4f}", f"{cosines.min():.4f}"],
    ]
    return Table(f"Embeddings of {len(texts)} texts", ["", "MB", "mean cosine", "least cosine"], rows)


@torch.no_grad()
def megabytes(model: PreTrainedModel) -> float:
    """Bytes of all weights and buffers, tied ones once, in units of 10⁶."""
    tensors = {t.data_ptr(): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    return sum(tensors.values()) / 1e6
