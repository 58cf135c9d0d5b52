"""Inputs of the benchmark: Gaussian tensors, and those of an aligned student on real text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibition_scores

SCALARS = ("gamma", "eta", "delta", "length_exponent")


class Inputs(NamedTuple):
    """What a side is called with: q, k, v (B, H, N, D), and the scalars (H,) by name."""

    query: Tensor
    key: Tensor
    value: Tensor
    scalars: dict[str, Tensor]

    @property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value


def gaussian(batch: int, heads: int, length: int, dim: int) -> Inputs:
    """q, k, v as a model lays them out (B, N, H, D in memory), and the paper's initial scalars."""
    q, k, v = (torch.randn(batch, length, heads, dim).transpose(1, 2) for _ in range(3))
    initial = (1.0, 1.0, 0.5, 0.0)
    return Inputs(q, k, v, {name: torch.full((heads,), x) for name, x in zip(SCALARS, initial, strict=True)})


def half_valid(batch: int, length: int) -> Tensor:
    """(batch, length) bool: the first half of each row is valid, the rest padding."""
    return (torch.arange(length) < length // 2).expand(batch, length)


def token_rows(text: Path, tokenizer: Any, batch: int, length: int) -> Tensor:
    """(batch, length) token ids of running text, unpadded; `text` is plain, or Parquet with a column `text`."""
    if text.suffix == ".parquet":
        import pyarrow.parquet

        column = pyarrow.parquet.read_table(text, columns=["text"])["text"]
        read = "".join(piece for piece in column.to_pylist() if piece)
    else:
        read = text.read_text(encoding="utf-8")
    needed = batch * (length - 2)
    ids = tokenizer(read[: 40 * needed], add_special_tokens=False, verbose=False)["input_ids"][:needed]
    if len(ids) < needed:
        raise SystemExit(f"{text} is too short: {needed} tokens are needed, it has {len(ids)}")
    first, last = (torch.full((batch, 1), x) for x in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    return torch.cat([first, torch.tensor(ids).view(batch, length - 2), last], 1)


def capture_inputs(student: str, text: Path, batch: int, length: int) -> list[Inputs]:
    """The inputs of every attention layer of `student` reading full-length pieces of `text`."""
    from transformers import AutoTokenizer

    from inhibitor_transformers import InhibiDistilBertModel

    model = InhibiDistilBertModel.from_pretrained(student).eval()
    rows = token_rows(text, AutoTokenizer.from_pretrained(student), batch, length)
    layers: list[Inputs] = []

    def record(scalars: Any, qkv: tuple[Tensor, Tensor, Tensor]) -> None:
        layers.append(Inputs(*qkv, {name: getattr(scalars, name).detach() for name in SCALARS}))

    for block in model.transformer.layer:
        block.attention.inhibitor.register_forward_pre_hook(record)
    with torch.no_grad():
        model(input_ids=rows)
    return layers


def inactive_fraction(inputs: Inputs) -> float:
    """Fraction of (query, key) pairs that contribute nothing: Z_ij >= max_k |v_jk|."""
    q, k, v, scalars = inputs
    z = inhibition_scores(q, k, gamma=scalars["gamma"], delta=scalars["delta"])
    return (z >= v.abs().amax(-1)[:, :, None]).float().mean().item()
