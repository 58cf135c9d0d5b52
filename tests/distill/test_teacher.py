"""The teacher is frozen, hands out what its layers really compute, and shares its student's tokenizer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, BertForMaskedLM, BertForSequenceClassification

from inhibitor_transformers.distill.teacher import Teacher, model_inputs, require_same_tokenizer
from inhibitor_transformers.models.contexts import output_projections
from tests.distill.tiny import (
    HEADS,
    LAYERS,
    VOCABULARY,
    WIDTH,
    bert,
    bert_tokenizer,
    distilbert,
    distilbert_tokenizer,
    padded_batch,
    roberta,
    roberta_tokenizer,
)

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
    signals = Teacher(model)(batch, contexts=True, hidden=True)
    assert len(signals.contexts) == LAYERS
    assert len(signals.hidden) == LAYERS + 1
    valid = batch["attention_mask"].bool()
    for i in range(LAYERS):
        with torch.no_grad():
            expected = softmax_context(attention(model, i), names, signals.hidden[i], batch["attention_mask"])
        torch.testing.assert_close(signals.contexts[i][valid].double(), expected[valid], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_projection_of_a_context_is_what_the_layer_goes_on_with(name):
    model = ARCHITECTURES[name][0]()
    seen = []
    handles = [p.register_forward_hook(lambda _, args, out: seen.append(args[0])) for p in output_projections(model)]
    signals = Teacher(model)(padded_batch([9, 6]), contexts=True)
    for handle in handles:
        handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(signals.contexts, seen, strict=True))


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
    signals = Teacher(bert())(padded_batch([9]))
    assert (signals.hidden, signals.contexts, signals.logits) == ((), (), None)


def test_logits_of_a_head():
    model = bert(BertForMaskedLM)
    batch = padded_batch([9, 6])
    with torch.no_grad():
        expected = model(**model_inputs(batch)).logits
    assert torch.equal(Teacher(model)(batch).logits, expected)


def test_no_hook_is_left_behind():
    model = bert()
    Teacher(model)(padded_batch([9]), contexts=True)
    assert [p for p in output_projections(model) if p._forward_pre_hooks] == []


def test_no_hook_is_left_behind_by_an_error():
    model = bert()
    with pytest.raises(Exception, match="index out of range"):
        Teacher(model)({"input_ids": torch.full((1, 4), 10_000), "attention_mask": torch.ones(1, 4)}, contexts=True)
    assert [p for p in output_projections(model) if p._forward_pre_hooks] == []


def test_nothing_of_the_teacher_needs_or_gets_a_gradient():
    teacher = Teacher(bert().requires_grad_(True))
    signals = teacher(padded_batch([9, 6]), contexts=True, hidden=True)
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not any(t.requires_grad for t in (*signals.contexts, *signals.hidden))


def test_evaluation_mode_whoever_called_train():
    model = bert(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    teacher = Teacher(model)
    batch = padded_batch([9, 6])
    expected = teacher(batch, hidden=True).hidden
    model.train()
    again = teacher(batch, hidden=True).hidden
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert not model.training


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


class TestRequireSameTokenizer:
    def test_the_same_is_accepted(self, tmp_path):
        bert_tokenizer().save_pretrained(tmp_path)
        require_same_tokenizer(bert_tokenizer(), AutoTokenizer.from_pretrained(tmp_path))
        require_same_tokenizer(roberta_tokenizer(), roberta_tokenizer())

    def test_segment_ids_do_not_matter(self):
        require_same_tokenizer(distilbert_tokenizer(), bert_tokenizer())

    def test_another_vocabulary_is_refused_with_what_differs(self):
        other = [token.replace("cat", "kitten") for token in VOCABULARY]
        with pytest.raises(ValueError, match=r"differ in 2, e\.g\. \['cat', 'kitten'\]"):
            require_same_tokenizer(bert_tokenizer(), bert_tokenizer(other))

    def test_the_same_tokens_in_another_order_are_refused(self):
        swapped = list(VOCABULARY)
        swapped[10], swapped[20] = swapped[20], swapped[10]
        with pytest.raises(ValueError, match="must share a tokenizer: vocabularies of 75 and 75 tokens differ in 2"):
            require_same_tokenizer(bert_tokenizer(), bert_tokenizer(swapped))

    @pytest.mark.parametrize(
        ("settings", "shown"),
        [({"do_lower_case": False}, r"\[UNK\]"), ({"strip_accents": False}, r"\[UNK\]")],
    )
    def test_equal_vocabularies_with_another_normalisation_are_refused(self, settings, shown):
        with pytest.raises(ValueError, match=f"the vocabularies are equal, yet of the same text one makes .*{shown}"):
            require_same_tokenizer(bert_tokenizer(**settings), bert_tokenizer())

    def test_equal_vocabularies_with_other_special_tokens_around_a_text_are_refused(self):
        from tokenizers.processors import TemplateProcessing

        other = bert_tokenizer()
        other.backend_tokenizer.post_processor = TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
        with pytest.raises(ValueError, match="the vocabularies are equal"):
            require_same_tokenizer(bert_tokenizer(), other)

    def test_another_kind_of_tokenizer_is_refused(self):
        with pytest.raises(ValueError, match="vocabularies of 75 and 100 tokens differ"):
            require_same_tokenizer(roberta_tokenizer(), bert_tokenizer())
