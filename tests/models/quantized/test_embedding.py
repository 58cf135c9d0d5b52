"""8-bit embeddings."""

from __future__ import annotations

import torch
from torch import nn

from inhibitor_transformers.models.quantized import Int8Embedding


def test_rows_are_near_by_half_a_step():
    torch.manual_seed(0)
    table = nn.Embedding(50, 16, padding_idx=0)
    table.weight.data *= torch.rand(50, 1) * 10
    made = Int8Embedding.from_embedding(table)
    ids = torch.randint(0, 50, (3, 7))
    got, exact = made(ids), table(ids)
    assert got.shape == (3, 7, 16)
    assert got.dtype == torch.float32
    step = exact.abs().amax(-1, keepdim=True) / 127
    assert ((got - exact).abs() <= 0.51 * step).all()
    assert not made(torch.tensor([0])).any()  # a row of zeros has no step of its own


def test_changes_in_place_are_seen():
    made, other = (Int8Embedding.from_embedding(nn.Embedding(9, 4)) for _ in range(2))
    ids = torch.arange(9)
    made(ids)
    for mine, its in zip(made.buffers(), other.buffers(), strict=True):
        mine.copy_(its)
    assert torch.equal(made(ids), other(ids))
