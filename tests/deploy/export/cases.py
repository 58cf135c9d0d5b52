"""Tensors of plain attention and what the reference makes of them, and tiny models in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inhibitor_transformers.attention import InhibitorScalars, inhibitor_attention
from tests.attention.cases import Shape, random_inputs
from tests.models.tiny import save_tokenizer, tiny_student

NO_ONNX = "needs onnx, onnxscript and onnxruntime: pip install 'inhibitor-transformers[onnx]'"


def attention_inputs(batch: int, heads: int, length: int, dim: int) -> tuple[list[Tensor], InhibitorScalars]:
    """float32 query, key and value (batch, heads, length, dim), and scalars that differ per head."""
    found = random_inputs(Shape(batch, heads, heads, length, length, dim, dim), dtype=torch.float32)
    scalars = InhibitorScalars(heads, length_reference=10.0).requires_grad_(False)
    for name in scalars.initial:
        getattr(scalars, name).copy_(found[name])
    return [found[name] for name in ("query", "key", "value")], scalars


def padding(batch: int, length: int) -> Tensor:
    """(batch, length) bool: row 0 whole, row 1 padded behind, row 2 before, row 3 in between, row 4 has no key."""
    at = torch.arange(length)
    kinds = [at >= 0, at < (length + 1) // 2, at >= length // 2, at % 3 != 1, at < 0]
    return torch.stack([kinds[row % len(kinds)] for row in range(batch)])


def expected(qkv: list[Tensor], valid: Tensor, scalars: InhibitorScalars, **options: Any) -> Tensor:
    """The reference in float64."""
    return inhibitor_attention(
        *(t.double() for t in qkv), **scalars.as_arguments(), key_padding_mask=valid, engine="reference", **options
    )


def saved_student(folder: Path, name: str = "Model", **fields: Any) -> tuple[str, Any]:
    """A tiny model of class `name` and its tokenizer in `folder`; returns both."""
    model = tiny_student(name, **({"n_layers": 1} | fields))
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder), model
