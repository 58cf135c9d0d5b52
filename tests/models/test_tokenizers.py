"""Tokenizers that give other ids are told apart, and the reason is said."""

from __future__ import annotations

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from inhibitor_transformers.models.compatibility import require_same_tokenizer
from tests.distill.tiny import VOCABULARY, bert_tokenizer, distilbert_tokenizer, roberta_tokenizer


def test_the_same_is_accepted(tmp_path):
    bert_tokenizer().save_pretrained(tmp_path)
    require_same_tokenizer(bert_tokenizer(), AutoTokenizer.from_pretrained(tmp_path))
    require_same_tokenizer(roberta_tokenizer(), roberta_tokenizer())


def test_segment_ids_do_not_matter():
    require_same_tokenizer(distilbert_tokenizer(), bert_tokenizer())


def test_another_vocabulary_is_refused_with_what_differs():
    other = [token.replace("cat", "kitten") for token in VOCABULARY]
    with pytest.raises(ValueError, match=r"differ in 2, e\.g\. \['cat', 'kitten'\]"):
        require_same_tokenizer(bert_tokenizer(), bert_tokenizer(other))


def test_the_same_tokens_in_another_order_are_refused():
    swapped = list(VOCABULARY)
    swapped[10], swapped[20] = swapped[20], swapped[10]
    with pytest.raises(ValueError, match="must share a tokenizer: vocabularies of 75 and 75 tokens differ in 2"):
        require_same_tokenizer(bert_tokenizer(), bert_tokenizer(swapped))


@pytest.mark.parametrize(
    ("settings", "shown"),
    [({"do_lower_case": False}, r"\[UNK\]"), ({"strip_accents": False}, r"\[UNK\]")],
)
def test_equal_vocabularies_with_another_normalization_are_refused(settings, shown):
    with pytest.raises(ValueError, match=f"the vocabularies are equal, yet of the same text one makes .*{shown}"):
        require_same_tokenizer(bert_tokenizer(**settings), bert_tokenizer())


def test_equal_vocabularies_with_other_special_tokens_around_a_text_are_refused():
    other = bert_tokenizer()
    other.backend_tokenizer.post_processor = TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
    with pytest.raises(ValueError, match="the vocabularies are equal"):
        require_same_tokenizer(bert_tokenizer(), other)


def test_another_kind_of_tokenizer_is_refused():
    with pytest.raises(ValueError, match="vocabularies of 75 and 100 tokens differ"):
        require_same_tokenizer(roberta_tokenizer(), bert_tokenizer())
