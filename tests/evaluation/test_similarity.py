"""Embeddings depend on their text alone, and similarities are what they are called."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from inhibitor_transformers.evaluation import similarity
from inhibitor_transformers.evaluation.similarity import agreement, embed, pair_cosines, rank_correlation, sts_spearman
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.tiny import bert, bert_tokenizer, roberta, roberta_tokenizer, sentences

TOKENIZER = bert_tokenizer()
TEXTS = sentences(40, clauses=(1, 12))

MODELS = {
    "bert": lambda: (bert(), TOKENIZER),
    "roberta": lambda: (roberta(), roberta_tokenizer()),
    "inhibitor": lambda: (InhibiDistilBertModel.from_teacher(bert()), TOKENIZER),
}


@pytest.fixture(params=MODELS)
def model_and_tokenizer(request):
    return MODELS[request.param]()


def by_hand(model, tokenizer, text: str, max_length: int = 256) -> torch.Tensor:
    """Mean of the last hidden states over the tokens of one text, alone in its batch, scaled to length one."""
    ids = torch.tensor([tokenizer(text, truncation=True, max_length=max_length)["input_ids"]])
    with torch.no_grad():
        mean = model.base_model(input_ids=ids).last_hidden_state[0].mean(0)
    return mean / mean.norm()


class TestEmbed:
    def test_each_text_is_embedded_as_if_it_were_alone_and_in_order(self, model_and_tokenizer):
        model, tokenizer = model_and_tokenizer
        found = embed(model, tokenizer, TEXTS[:12], max_length=100)
        expected = torch.stack([by_hand(model, tokenizer, text, 100) for text in TEXTS[:12]])
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_batches_do_not_matter(self, monkeypatch):
        model = bert()
        whole = embed(model, TOKENIZER, TEXTS, max_length=64)
        monkeypatch.setattr(similarity, "_TOKENS_PER_BATCH", 80)
        torch.testing.assert_close(embed(model, TOKENIZER, TEXTS, max_length=64), whole, rtol=1e-4, atol=1e-6)

    def test_batches_hold_no_more_tokens_than_said(self, monkeypatch):
        model, sizes = bert(), []
        monkeypatch.setattr(similarity, "_TOKENS_PER_BATCH", 150)
        model.register_forward_pre_hook(
            lambda _, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        embed(model, TOKENIZER, TEXTS, max_length=64)
        assert max(sizes) <= 150
        assert len(sizes) < len(TEXTS)

    def test_texts_are_cut(self):
        model = bert()
        long, cut = "the cat sees a dog and the cat likes a bird", "the cat sees a dog and"
        assert TOKENIZER(long, truncation=True, max_length=8)["input_ids"] == TOKENIZER(cut)["input_ids"]
        a, b = embed(model, TOKENIZER, [long, cut], max_length=8)
        torch.testing.assert_close(a, b)

    def test_vectors_have_length_one(self):
        torch.testing.assert_close(embed(bert(), TOKENIZER, TEXTS, max_length=64).norm(dim=-1), torch.ones(len(TEXTS)))

    def test_a_model_in_training_mode_is_evaluated(self):
        model = bert(hidden_dropout_prob=0.5)
        expected = embed(model, TOKENIZER, TEXTS[:3])
        torch.testing.assert_close(embed(model.train(), TOKENIZER, TEXTS[:3]), expected)

    def test_a_head_does_not_matter(self):
        from transformers import BertForMaskedLM

        model = bert(BertForMaskedLM)
        torch.testing.assert_close(embed(model, TOKENIZER, TEXTS[:3]), embed(model.base_model, TOKENIZER, TEXTS[:3]))


class TestStsSpearman:
    """A stand-in for `embed` gives the pairs known cosines."""

    @pytest.fixture
    def cosines(self, monkeypatch):
        angles = {"a": 0.0, "b": 0.3, "c": 0.9, "d": 1.4}

        def vectors(model, tokenizer, texts, **_):
            at = torch.tensor([angles[text] for text in texts])
            return torch.stack([at.cos(), at.sin()], dim=-1)

        monkeypatch.setattr(similarity, "embed", vectors)

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [([5.0, 3.0, 1.0], 1.0), ([1.0, 3.0, 5.0], -1.0), ([3.0, 5.0, 1.0], 0.5), ([5.0, 4.9, 0.0], 1.0)],
    )
    def test_known_orders(self, labels, expected, cosines):
        pairs = {"sentence1": ["a", "a", "a"], "sentence2": ["b", "c", "d"], "label": labels}
        assert sts_spearman(None, None, pairs) == pytest.approx(expected)

    def test_cosine_not_the_inner_product_of_unscaled_vectors(self):
        model = bert()
        pairs = {"sentence1": TEXTS[:10], "sentence2": TEXTS[10:20], "label": list(range(10))}
        a, b = (embed(model, TOKENIZER, pairs[c], max_length=64) for c in ("sentence1", "sentence2"))
        expected = rank_correlation(F.cosine_similarity(a, b), torch.arange(10))
        assert sts_spearman(model, TOKENIZER, pairs, max_length=64) == pytest.approx(expected)


class TestAgreement:
    def test_of_a_model_with_itself_is_one(self):
        model = bert()
        found = agreement(model, model, TOKENIZER, TEXTS, [8, 16, 32])
        assert list(found) == [8, 16, 32]
        assert list(found.values()) == pytest.approx([1.0] * 3, abs=1e-6)

    def test_of_two_models_by_hand(self):
        teacher = bert()
        student = InhibiDistilBertModel.from_teacher(teacher)
        found = agreement(student, teacher, TOKENIZER, TEXTS, [16, 32], texts_per_length=5)
        for length, value in found.items():
            chosen = [t for t in TEXTS if len(TOKENIZER(t)["input_ids"]) >= length][:5]
            assert len(chosen) == 5
            vectors = [[by_hand(m, TOKENIZER, t, length) for t in chosen] for m in (student, teacher)]
            cosines = [float(a @ b) for a, b in zip(*vectors, strict=True)]
            assert value == pytest.approx(sum(cosines) / 5, abs=1e-4)

    def test_only_texts_that_fill_the_length_are_compared(self, monkeypatch):
        seen = []
        original = similarity.embed

        def watched(model, tokenizer, texts, *, max_length):
            seen.extend(len(ids) for ids in tokenizer(texts, truncation=True, max_length=max_length)["input_ids"])
            return original(model, tokenizer, texts, max_length=max_length)

        monkeypatch.setattr(similarity, "embed", watched)
        agreement(bert(), bert(), TOKENIZER, TEXTS, [32])
        assert set(seen) == {32}

    def test_a_length_that_no_text_reaches_is_left_out(self):
        assert list(agreement(bert(), bert(), TOKENIZER, ["the cat sees a dog and it likes a bird"], [8, 64])) == [8]

    def test_none_at_all_is_an_error(self):
        with pytest.raises(ValueError, match="none of 1 texts is as long as 64 tokens"):
            agreement(bert(), bert(), TOKENIZER, ["the cat"], [64, 128])


def test_pair_cosines_are_those_of_all_pairs_in_order():
    vectors = F.normalize(torch.randn(4, 3), dim=-1)
    expected = [float(vectors[i] @ vectors[j]) for i in range(4) for j in range(i + 1, 4)]
    assert pair_cosines(vectors).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("b", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1.0),
        ([8.0, 4.0, 2.0, 1.0], -1.0),
        ([1.0, 10.0, 100.0, 99.0], 0.8),
        ([1.0, 1.0, 2.0, 2.0], 0.8944),
    ],
)
def test_rank_correlation(b, expected):
    assert rank_correlation(torch.arange(4.0), torch.tensor(b)) == pytest.approx(expected, abs=1e-4)
