"""Hidden states of every layer, and the inhibition scores Z in the place of attention weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers import inhibition_scores
from tests.models.tiny import CLASSES, inputs_for, texts, tiny_student

LAYERS, HEADS = 3, 4


def scores_by_hand(attention: Any, layer_input: Tensor, valid: Tensor | None) -> Tensor:
    """Z (B, heads, N, N) of one layer, in loops over rows, heads and queries."""
    batch, length, width = layer_input.shape
    q, k = (lin(layer_input).view(batch, length, HEADS, -1) for lin in (attention.q_lin, attention.k_lin))
    z = torch.full((batch, HEADS, length, length), math.inf)
    for b in range(batch):
        keys = range(length) if valid is None else valid[b].nonzero().flatten().tolist()
        for h in range(HEADS):
            gamma, delta = attention.inhibitor.gamma[h], attention.inhibitor.delta[h]
            for i in range(length):
                s = {j: gamma / math.sqrt(width / HEADS) * (q[b, i, h] - k[b, j, h]).abs().sum() for j in keys}
                mean = sum(s.values()) / len(s)
                for j in keys:
                    z[b, h, i, j] = torch.relu(s[j] - mean + delta)
    return z


@pytest.fixture
def model() -> Any:
    return tiny_student(n_layers=LAYERS, n_heads=HEADS)


@pytest.mark.parametrize("padding", [False, True])
@torch.no_grad()
def test_attentions_are_the_scores_of_the_layer_inputs(model: Any, padding: bool) -> None:
    inputs = texts(padding=padding)
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    valid = inputs["attention_mask"].bool()
    assert len(outputs.attentions) == LAYERS
    for z, block, layer_input in zip(outputs.attentions, model.transformer.layer, outputs.hidden_states, strict=False):
        expected = scores_by_hand(block.attention, layer_input, valid if padding else None)
        torch.testing.assert_close(z, expected, atol=1e-5, rtol=1e-5)
        assert (z == 0).any()  # some values pass fully
        assert ((z > 0) & z.isfinite()).any()
        assert torch.equal(z.isinf(), ~valid[:, None, None, :].expand_as(z))


@torch.no_grad()
def test_attentions_are_those_of_the_public_function(model: Any) -> None:
    inputs = texts()
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    attention = model.transformer.layer[1].attention
    q, k = (
        lin(outputs.hidden_states[1]).view(3, 7, HEADS, -1).transpose(1, 2)
        for lin in (attention.q_lin, attention.k_lin)
    )
    scalars = {name: getattr(attention.inhibitor, name) for name in ("gamma", "delta")}
    expected = inhibition_scores(q, k, **scalars, key_padding_mask=inputs["attention_mask"].bool())
    assert torch.equal(outputs.attentions[1], expected)


@torch.no_grad()
def test_uncentered_scores(model: Any) -> None:
    model.config.inhibitor_center = "none"
    z = model(**texts(padding=False), output_attentions=True).attentions[0]
    model.config.inhibitor_center = "mean"
    assert not torch.allclose(z, model(**texts(padding=False), output_attentions=True).attentions[0])


@torch.no_grad()
def test_recording_changes_nothing(model: Any) -> None:
    inputs = texts()
    plain = model(**inputs)
    recorded = model(**inputs, output_attentions=True, output_hidden_states=True)
    assert torch.equal(recorded.last_hidden_state, plain.last_hidden_state)
    assert torch.equal(recorded.hidden_states[-1], plain.last_hidden_state)
    assert "attentions" not in plain
    assert "hidden_states" not in plain


@torch.no_grad()
def test_hidden_states_are_what_the_layers_take_and_give(model: Any) -> None:
    inputs = texts()
    seen: list[Tensor] = []
    for block in model.transformer.layer:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    outputs = model(**inputs, output_hidden_states=True)
    assert len(outputs.hidden_states) == LAYERS + 1
    assert all(torch.equal(a, b) for a, b in zip(outputs.hidden_states, seen, strict=False))
    assert torch.equal(outputs.hidden_states[0], model.embeddings(inputs["input_ids"]))


@pytest.mark.parametrize("name", CLASSES)
def test_through_every_head(name: str) -> None:
    model, inputs = tiny_student(name), inputs_for(name)
    rows = inputs["input_ids"].numel() // 7
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    assert [tuple(h.shape) for h in outputs.hidden_states] == [(rows, 7, 16)] * 3
    assert [tuple(z.shape) for z in outputs.attentions] == [(rows, 2, 7, 7)] * 2
    padded = inputs["attention_mask"].reshape(rows, 1, 1, 7) == 0
    assert padded.any()
    assert all(torch.equal(z.isinf(), padded.expand_as(z)) for z in outputs.attentions)
    assert "attentions" not in model(**inputs, output_hidden_states=True)
    assert "hidden_states" not in model(**inputs, output_attentions=True)


def test_scores_in_training_are_those_in_evaluation() -> None:
    model = tiny_student(dropout=0.0, attention_dropout=0.5)
    inputs = texts()
    z = model(**inputs, output_attentions=True).attentions[0]
    assert torch.equal(model.train()(**inputs, output_attentions=True).attentions[0], z)
