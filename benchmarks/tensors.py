"""Inputs of the benchmark: Gaussian tensors, and those of an aligned student on real text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibition_scores

SCALARS = ("gamma", "eta", "delta", "length_exponent")
Inputs = tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]


def gaussian(batch: int, heads: int, length: int, dim: int) -> Inputs:
    """q, k, v as a model lays them out (B, N, H, D in memory), and the paper's starting scalars."""
    q, k, v = (torch.randn(batch, length, heads, dim).transpose(1, 2) for _ in range(3))
    starts = (1.0, 1.0, 0.5, 0.0)
    return q, k, v, {name: torch.full((heads,), x) for name, x in zip(SCALARS, starts, strict=True)}


def captured(student: str, text: Path, batch: int, length: int) -> list[Inputs]:
    """The inputs of every attention layer of `student` on full-length pieces of `text` (a plain text file)."""
    from transformers import AutoTokenizer

    from inhibitor_transformers import InhibiDistilBertModel
    from inhibitor_transformers.models import interface

    model = InhibiDistilBertModel.from_pretrained(student).eval()
    tokenizer = AutoTokenizer.from_pretrained(student)
    ids = tokenizer(text.read_text(), add_special_tokens=False)["input_ids"][: batch * (length - 2)]
    if len(ids) < batch * (length - 2):
        raise SystemExit(f"{text} is too short: {batch * (length - 2)} tokens are needed, it has {len(ids)}")
    rows = torch.tensor(ids).view(batch, length - 2)
    first, last = (torch.full((batch, 1), x) for x in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    layers: list[Inputs] = []
    original = interface.inhibitor_attention

    def record(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        layers.append((q, k, v, {name: options[name].detach() for name in SCALARS}))
        return original(q, k, v, **options)

    interface.inhibitor_attention = record
    try:
        with torch.no_grad():
            model(input_ids=torch.cat([first, rows, last], 1))
    finally:
        interface.inhibitor_attention = original
    return layers


def dead_share(inputs: Inputs) -> float:
    """Share of (query, key) pairs that give nothing: Z_ij >= max_k |v_jk|."""
    q, k, v, scalars = inputs
    z = inhibition_scores(q, k, gamma=scalars["gamma"], delta=scalars["delta"])
    return (z >= v.abs().amax(-1)[:, :, None]).float().mean().item()
