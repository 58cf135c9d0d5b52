"""Quantizing a model: how near it stays, what is left alone, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel

from inhibitor_transformers import InhibiDistilBertForSequenceClassification, InhibiDistilBertModel
from inhibitor_transformers.attention.integer import QuantizedScalars
from inhibitor_transformers.deploy.quantize import cost_table, quantize, quantize_linears
from inhibitor_transformers.models.quantized import Int8Embedding, Int8Linear
from tests.distill.tiny import bert, bert_tokenizer, distilbert, sentences
from tests.models.conversion.zoo import student as converted

TEXTS = sentences(40)


@pytest.fixture
def student():
    return InhibiDistilBertModel.from_teacher(bert()).eval()


def batch_of(texts) -> dict[str, torch.Tensor]:
    return dict(bert_tokenizer()(texts, padding=True, truncation=True, max_length=60, return_tensors="pt"))


def relative_error(model, made) -> float:
    batch = batch_of(TEXTS[20:30])
    valid = batch["attention_mask"].bool()
    with torch.no_grad():
        ours, theirs = made(**batch).last_hidden_state[valid], model(**batch).last_hidden_state[valid]
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"bits": 16, "linears": False}, 5e-3),
        ({"bits": 8, "linears": False}, 0.05),
        ({"bits": 8}, 0.1),
        ({"bits": 8, "embeddings": True}, 0.1),
    ],
)
def test_near_the_float_model(student, settings, tolerance):
    made = quantize(student, TEXTS[:20], bert_tokenizer(), max_length=60, **settings)
    assert relative_error(student, made) < tolerance


@pytest.mark.parametrize("bits", [8, 16])
def test_values_are_quantized_about_their_mean(bits):
    """What is common to all values takes no part of the range from what is shrunk."""
    models = [InhibiDistilBertModel.from_teacher(bert(), inhibitor_value_center="mean").eval() for _ in range(2)]
    with torch.no_grad():
        models[1].transformer.layer[0].attention.v_lin.bias += 3.0
    made = [quantize(m, TEXTS[:20], bert_tokenizer(), max_length=60, bits=bits, linears=False) for m in models]
    plain, shifted = (m.transformer.layer[0].attention.inhibitor.state_dict() for m in made)
    assert plain.keys() == shifted.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(shifted[name], expected, rtol=1e-3, atol=0)
    assert all(relative_error(m, q) < 0.06 for m, q in zip(models, made, strict=True))


def test_the_float_model_stays_as_it_was(student):
    before = {name: t.clone() for name, t in student.state_dict().items()}
    made = quantize(student, TEXTS[:20], bert_tokenizer(), embeddings=True)
    assert student.state_dict().keys() == before.keys()
    assert all(torch.equal(t, before[name]) for name, t in student.state_dict().items())
    assert not getattr(student, "is_quantized", False)
    assert not any(p.requires_grad for p in made.parameters())


def test_what_is_replaced():
    model = InhibiDistilBertForSequenceClassification.from_teacher(bert()).eval()
    made = quantize(model, TEXTS[:20], bert_tokenizer(), embeddings=True)
    kinds = [type(m) for m in made.modules()]
    assert kinds.count(Int8Linear) == 2 * 6
    assert kinds.count(QuantizedScalars) == 2
    assert kinds.count(Int8Embedding) == 1
    assert [type(m) for m in (made.pre_classifier, made.classifier)] == [nn.Linear] * 2


def test_wide_features_are_split_unless_told_otherwise(student):
    with torch.no_grad():
        for projection in (student.transformer.layer[0].attention.q_lin, student.transformer.layer[0].attention.k_lin):
            projection.weight[::8] *= 8
    counts = []
    for split in (True, False):
        made = quantize(student, TEXTS[:20], bert_tokenizer(), max_length=60, linears=False, split=split)
        counts.append([layer.attention.inhibitor.qparams.offset.shape[1] for layer in made.transformer.layer])
        assert made.config.quantization_config.features == counts[-1]
    assert counts[0][0] > 8
    assert counts[1] == [8, 8]


def test_padding_is_not_calibrated_on(student):
    texts = [TEXTS[0], " ".join(TEXTS[:8])]
    before = quantize(student, texts, bert_tokenizer(), max_length=100)
    with torch.no_grad():  # what padding looks like
        student.embeddings.word_embeddings.weight[0] += 100.0
    after = quantize(student, texts, bert_tokenizer(), max_length=100)
    assert all(torch.equal(a, b) for a, b in zip(before.buffers(), after.buffers(), strict=True))


def test_texts_are_cut_to_what_the_model_reads(student):
    quantize(student, [" ".join(TEXTS)], bert_tokenizer(), max_length=10_000)


def test_layers_that_read_the_same_share_their_steps(student):
    made = quantize(student, TEXTS[:20], bert_tokenizer())
    for block in made.transformer.layer:
        q, k, v = (getattr(block.attention, name) for name in ("q_lin", "k_lin", "v_lin"))
        for other in (k, v):
            assert torch.equal(q.input_step, other.input_step)
            assert q.input_zero_point == other.input_zero_point
        assert len(set(q.input_step.tolist())) > 1
        assert len(set(block.ffn.lin2.input_step.tolist())) == 1


def test_segments_are_read(student):
    assert student.config.type_vocab_size == 2
    made = quantize(student, TEXTS[:20], bert_tokenizer())
    assert relative_error(student, made) < 0.1


def test_linear_layers_of_a_softmax_model():
    model = distilbert().eval()
    batch = batch_of(TEXTS[:10])
    batch.pop("token_type_ids")
    with torch.no_grad():
        exact = model(**batch).last_hidden_state
    quantize_linears(model, [batch])
    with torch.no_grad():
        error = (model(**batch).last_hidden_state - exact).norm() / exact.norm()
    assert 0 < error < 0.1


def test_the_cost_is_shown(student):
    made = quantize(student, TEXTS[:20], bert_tokenizer(), embeddings=True)
    table = cost_table(student, made, bert_tokenizer(), TEXTS[20:])
    (_, float_size, *_), (_, size, mean, least) = table.rows
    assert float(size) < float(float_size)
    assert 0.9 < float(least) <= float(mean) <= 1


@pytest.mark.parametrize("kind", [tuple, iter, np.array, lambda texts: (text for text in texts)])
def test_texts_of_any_kind(kind, student):
    expected = quantize(student, TEXTS[:8], bert_tokenizer()).state_dict()
    found = quantize(student, kind([*TEXTS[:8], " "]), bert_tokenizer()).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_pairs_as_lists(student):
    pairs = list(zip(TEXTS[:6], TEXTS[6:12], strict=True))
    expected = quantize(student, pairs, bert_tokenizer()).state_dict()
    found = quantize(student, [list(pair) for pair in pairs], bert_tokenizer()).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_longer_texts_than_the_model_reads_are_cut(student):
    texts = [" ".join(TEXTS)] * 3
    made = quantize(student, texts, bert_tokenizer(), max_length=100_000)
    assert cost_table(student, made, bert_tokenizer(), texts, max_length=100_000).rows


class TestRefusals:
    def test_converted_models(self):
        with pytest.raises(ValueError, match="a converted InhibitorGPT2LMHeadModel cannot be quantized yet"):
            quantize(converted("GPT2"), ["a text"], bert_tokenizer())

    @pytest.mark.parametrize(
        ("texts", "reason"),
        [
            ([], "needs texts to calibrate on: there are none"),
            (iter([]), "needs texts to calibrate on: there are none"),
            (["", "  "], "needs texts to calibrate on: all 2 texts are blank"),
            ("one text", "several, such as a list, got one string"),
            (None, "must be a list of texts, or of pairs of texts, got NoneType"),
            (7, "must be a list of texts, or of pairs of texts, got int"),
            ([None], "must be strings, or pairs of strings, got None"),
            ([("a", "b", "c")], r"pairs of strings, got \('a', 'b', 'c'\)"),
            (["a text", ("a", "b")], "all single or all pairs, got both"),
            (dict.fromkeys(TEXTS), "must be a list of texts, or of pairs of texts, got dict"),
            (set(TEXTS), "must be a list of texts, or of pairs of texts, got set"),
            (b"bytes", "must be a list of texts, or of pairs of texts, got bytes"),
            (np.array("text"), "must be a list of texts, or of pairs of texts, got ndarray"),
            (["a", "cut \ud83d"], r"text 2: half a character, '\\ud83d', at position 4 of the text"),
            ([("a", "\udc00")], "text 1: half a character"),
        ],
    )
    def test_texts(self, texts, reason, student):
        with pytest.raises(ValueError, match=reason):
            quantize(student, texts, bert_tokenizer())

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"batch_size": 0}, "batch_size must be a positive whole number, got 0"),
            ({"batch_size": 2.0}, "batch_size must be a positive whole number, got 2.0"),
            ({"max_length": 0}, "max_length must be a whole number above the 2 special tokens, got 0"),
            ({"max_length": 2}, "above the 2 special tokens, got 2"),
            ({"max_length": -1}, "above the 2 special tokens, got -1"),
            ({"max_length": 16.0}, "above the 2 special tokens, got 16.0"),
            ({"max_length": True}, "above the 2 special tokens, got True"),
            ({"bits": 7}, r"bits must be one of \[3, 4, 5, 6, 8, 16\], got 7"),
            ({"bits": 8.0}, r"bits must be one of \[3, 4, 5, 6, 8, 16\], got 8.0"),
            ({"bits": "8"}, r"bits must be one of \[3, 4, 5, 6, 8, 16\], got '8'"),
            ({"linears": 1}, "linears must be true or false, got 1"),
            ({"embeddings": "no"}, "embeddings must be true or false, got 'no'"),
        ],
    )
    def test_settings(self, settings, message, student):
        with pytest.raises(ValueError, match=message):
            quantize(student, TEXTS, bert_tokenizer(), **settings)

    def test_a_length_without_room_for_a_pair(self, student):
        with pytest.raises(ValueError, match="above the 3 special tokens, got 3"):
            quantize(student, [("a", "b")], bert_tokenizer(), max_length=3)

    def test_a_length_of_the_costs(self, student):
        with pytest.raises(ValueError, match="above the 2 special tokens, got 0"):
            cost_table(student, student, bert_tokenizer(), TEXTS, max_length=0)

    def test_another_models_tokenizer(self, student):
        student.config.vocab_size = 30
        with pytest.raises(ValueError, match="InhibiDistilBertModel: the tokenizer has token ids up to"):
            quantize(student, TEXTS, bert_tokenizer())

    def test_a_softmax_model(self):
        with pytest.raises(ValueError, match="DistilBertModel has no inhibitor attention"):
            quantize(distilbert(), TEXTS, bert_tokenizer())

    def test_a_quantized_model(self, student):
        made = quantize(student, TEXTS[:5], bert_tokenizer())
        with pytest.raises(ValueError, match=r"transformer.layer.0.attention.\w+ is quantized already"):
            quantize(made, TEXTS[:5], bert_tokenizer())

    def test_a_module_that_is_not_known(self, student):
        student.transformer.layer[1].attention.k_lin = nn.Identity()
        with pytest.raises(ValueError, match=r"transformer.layer.1.attention.k_lin is not a plain Linear but Identity"):
            quantize(student, TEXTS[:5], bert_tokenizer())

    def test_activations_that_are_not_finite(self, student):
        with torch.no_grad():
            student.transformer.layer[0].ffn.lin2.weight.fill_(1e38)
        with pytest.raises(ValueError, match="not finite"):
            quantize(student, TEXTS[:5], bert_tokenizer())


def test_the_auto_class_gives_back_what_was_quantized(student, tmp_path):
    made = quantize(student, TEXTS[:5], bert_tokenizer())
    made.save_pretrained(tmp_path)
    assert relative_error(made, AutoModel.from_pretrained(tmp_path).eval()) == 0
