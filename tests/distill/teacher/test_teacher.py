"""The teacher is frozen, hands out what its layers really compute, and shares its student's tokenizer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import BertForMaskedLM, BertForSequenceClassification

from inhibitor_transformers.distill.teacher.teacher import Teacher, model_inputs
from inhibitor_transformers.models.architectures import attention_layers
from tests.distill.tiny import HEADS, LAYERS, WIDTH, bert, distilbert, padded_batch, roberta

# Per architecture: the model, and the projections of one layer.
ARCHITECTURES = {
    "bert": (bert, lambda m, i: m.encoder.layer[i].attention.self, ("query", "key", "value")),
    "roberta": (roberta, lambda m, i: m.encoder.layer[i].attention.self, ("query", "key", "value")),
    "distilbert": (distilbert, lambda m, i: m.transformer.layer[i].attention, ("q_lin", "k_lin", "v_lin")),
}


def softmax_context(module, names: tuple[str, ...], hidden: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention from its definition, head by head: (B, N, width)."""
    q, k, v = (getattr(module, name)(hidden).double() for name in names)
    out = torch.zeros_like(q)
    size = WIDTH // HEADS
    for b in range(len(hidden)):
        valid = mask[b].bool()
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            scores = q[b, :, part] @ k[b, valid, part].T / math.sqrt(size)
            out[b, :, part] = scores.softmax(-1) @ v[b, valid, part]
    return out


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contexts_are_what_attention_hands_to_its_output_projection(name):
    make, attention, names = ARCHITECTURES[name]
    model = make()
    batch = padded_batch([9, 6, 12])
    teacher_outputs = Teacher(model)(batch, attention_outputs=True, hidden=True)
    assert len(teacher_outputs.attention_outputs) == LAYERS
    assert len(teacher_outputs.hidden) == LAYERS + 1
    valid = batch["attention_mask"].bool()
    for i in range(LAYERS):
        with torch.no_grad():
            expected = softmax_context(attention(model, i), names, teacher_outputs.hidden[i], batch["attention_mask"])
        torch.testing.assert_close(
            teacher_outputs.attention_outputs[i][valid].double(), expected[valid], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_projection_of_a_context_is_what_the_layer_goes_on_with(name):
    model = ARCHITECTURES[name][0]()
    seen = []
    handles = [
        layer.output.register_forward_hook(lambda _, args, out: seen.append(args[0]))
        for layer in attention_layers(model)
    ]
    teacher_outputs = Teacher(model)(padded_batch([9, 6]), attention_outputs=True)
    for handle in handles:
        handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(teacher_outputs.attention_outputs, seen, strict=True))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_hidden_states_are_those_of_the_model(name):
    model = ARCHITECTURES[name][0]()
    batch = padded_batch([9, 6])
    with torch.no_grad():
        expected = model(**model_inputs(batch), output_hidden_states=True)
    hidden = Teacher(model)(batch, hidden=True).hidden
    assert all(torch.equal(a, b) for a, b in zip(hidden, expected.hidden_states, strict=True))
    assert torch.equal(hidden[-1], expected.last_hidden_state)


def test_only_what_was_asked_for_is_filled_in():
    teacher_outputs = Teacher(bert())(padded_batch([9]))
    assert (teacher_outputs.hidden, teacher_outputs.attention_outputs, teacher_outputs.logits) == ((), (), None)


def test_logits_of_a_head():
    model = bert(BertForMaskedLM)
    batch = padded_batch([9, 6])
    with torch.no_grad():
        expected = model(**model_inputs(batch)).logits
    assert torch.equal(Teacher(model)(batch).logits, expected)


def test_no_hook_is_left_behind():
    model = bert()
    Teacher(model)(padded_batch([9]), attention_outputs=True)
    assert [layer for layer in attention_layers(model) if layer.output._forward_pre_hooks] == []


def test_no_hook_is_left_behind_by_an_error():
    model = bert()
    with pytest.raises(Exception, match="index out of range"):
        Teacher(model)(
            {"input_ids": torch.full((1, 4), 10_000), "attention_mask": torch.ones(1, 4)}, attention_outputs=True
        )
    assert [layer for layer in attention_layers(model) if layer.output._forward_pre_hooks] == []


def test_nothing_of_the_teacher_needs_or_gets_a_gradient():
    teacher = Teacher(bert().requires_grad_(True))
    teacher_outputs = teacher(padded_batch([9, 6]), attention_outputs=True, hidden=True)
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not any(t.requires_grad for t in (*teacher_outputs.attention_outputs, *teacher_outputs.hidden))


def test_evaluation_mode_whoever_called_train():
    model = bert(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    teacher = Teacher(model)
    batch = padded_batch([9, 6])
    expected = teacher(batch, hidden=True).hidden
    model.train()
    again = teacher(batch, hidden=True).hidden
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert not model.training


def test_under_autocast_it_computes_in_that_precision():
    model, batch = bert(), padded_batch([9, 6])
    exact = Teacher(model)(batch, hidden=True).hidden
    with torch.autocast("cpu", torch.bfloat16):
        hidden = Teacher(model)(batch, hidden=True).hidden
        with torch.no_grad():
            expected = model(**model_inputs(batch), output_hidden_states=True).hidden_states
    assert all(torch.equal(a, b) for a, b in zip(hidden, expected, strict=True))
    assert not torch.equal(hidden[-1], exact[-1])
    torch.testing.assert_close(hidden[-1].float(), exact[-1], rtol=0.05, atol=0.05)


def test_segment_ids_reach_the_teacher():
    model = bert(BertForSequenceClassification)
    batch = padded_batch([9, 9])
    segments = torch.zeros_like(batch["input_ids"])
    segments[:, 5:] = 1
    with torch.no_grad():
        with_segments = model(**model_inputs(batch), token_type_ids=segments).logits
    found = Teacher(model)(batch | {"token_type_ids": segments}).logits
    assert torch.equal(found, with_segments)
    assert not torch.allclose(found, Teacher(model)(batch).logits)


def test_what_is_no_input_of_an_encoder_is_left_out():
    batch = padded_batch([9]) | {"token_type_ids": torch.zeros(1, 9), "idx": torch.zeros(1)}
    assert list(model_inputs(batch)) == ["input_ids", "attention_mask", "token_type_ids"]
