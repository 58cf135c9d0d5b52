"""Softmax of Manhattan distances, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inhibitor_transformers import convert
from inhibitor_transformers.models.conversion.l1_softmax import l1_softmax_attention
from tests.models.conversion.zoo import example, run, teacher


def by_loops(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor, valid: Tensor, bias: Tensor | None) -> Tensor:
    batch, heads, queries, dim = q.shape
    groups = heads // k.shape[1]
    out = torch.zeros(batch, heads, queries, v.shape[3], dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                keys = [j for j in range(k.shape[2]) if valid[b, i, j]]
                scores = []
                for j in keys:
                    distance = float((q[b, h, i].double() - k[b, h // groups, j].double()).abs().sum())
                    extra = 0.0 if bias is None else float(bias[h if len(bias) > 1 else 0, i, j])
                    scores.append(math.exp(-(float(gamma[h]) * distance / math.sqrt(dim) + extra)))
                for weight, j in zip(scores, keys, strict=True):
                    out[b, h, i] += weight / sum(scores) * v[b, h // groups, j].double()
    return out


@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("masks", ["none", "padding", "pairs", "causal", "all"])
def test_matches_loops(masks: str, biased: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 7, 6), torch.randn(2, 2, 7, 3)
    gamma, options = torch.rand(4) + 0.5, {}
    valid = torch.ones(2, 5, 7, dtype=torch.bool)
    if masks in ("padding", "all"):
        options["key_padding_mask"] = torch.rand(2, 7) < 0.6
        valid = valid & options["key_padding_mask"][:, None]
        v = v.masked_fill(~options["key_padding_mask"][:, None, :, None], torch.nan)
    if masks in ("pairs", "all"):
        options["attn_mask"] = torch.rand(2, 1, 5, 7) < 0.6
        valid = valid & options["attn_mask"][:, 0]
    if masks in ("causal", "all"):
        options["is_causal"] = True
        valid = valid.tril(2)
    bias = torch.randn(1, 5, 7) if biased else None
    output, scores = l1_softmax_attention(q, k, v, gamma=gamma, score_bias=bias, **options)
    torch.testing.assert_close(output.double(), by_loops(q, k, v, gamma, valid, bias), rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.isfinite(), valid[:, None].expand_as(scores))


def test_a_query_without_keys_gives_nothing() -> None:
    q = torch.randn(1, 1, 2, 4)
    output, _ = l1_softmax_attention(q, q, q, gamma=torch.ones(1), key_padding_mask=torch.zeros(1, 2, dtype=torch.bool))
    assert torch.equal(output, torch.zeros_like(q))


@pytest.mark.parametrize("name", ["Llama", "ViT", "T5"])
def test_a_model_computes_it(name: str) -> None:
    student = convert(teacher(name), example(name), form="l1_softmax")
    for parameter_name, parameter in student.named_parameters():
        if parameter_name.endswith(".eta"):  # has no part in it
            parameter.data.fill_(torch.nan)
    assert all(output.isfinite().all() for output in run(student, **example(name)).values())
