"""Pairs whose segments are lost are told once, and only where a model would have seen them."""

from __future__ import annotations

import pytest
from transformers import BertForSequenceClassification

from inhibitor_transformers.deploy.quantize import quantize
from inhibitor_transformers.evaluation.task_score import score_task
from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification, compatibility
from inhibitor_transformers.tasks import TaskData, get_task
from tests.distill.tiny import bert, bert_tokenizer, distilbert_tokenizer, sentences
from tests.evaluation.test_task_score import pairs


@pytest.fixture(autouse=True)
def _nothing_was_said():
    compatibility._warn_once.cache_clear()


def data_of(name: str, rows) -> TaskData:
    return TaskData(get_task(name), rows, {"validation": rows, "test": rows})


def test_a_pair_without_segments_is_told_once(caplog):
    model = bert(BertForSequenceClassification)
    for _ in range(2):
        score_task(model, distilbert_tokenizer(), data_of("mrpc", pairs(4)), max_length=64)
    (record,) = caplog.records
    assert record.getMessage().startswith("mrpc: the tokenizer gives no token_type_ids, so this bert with 2 segments")


def test_where_nothing_is_lost_nothing_is_said(caplog):
    softmax = bert(BertForSequenceClassification)
    folded = InhibiDistilBertForSequenceClassification.from_teacher(softmax, segments="fold")
    score_task(softmax, bert_tokenizer(), data_of("mrpc", pairs(4)), max_length=64)
    score_task(folded, distilbert_tokenizer(), data_of("mrpc", pairs(4)), max_length=64)
    single = pairs(4).rename_column("sentence1", "sentence")
    score_task(softmax, distilbert_tokenizer(), data_of("sst2", single), max_length=64)
    assert "token_type_ids" not in caplog.text


def test_pairs_to_calibrate_on(caplog):
    model = InhibiDistilBertForSequenceClassification.from_teacher(bert())
    both = [*zip(sentences(4), sentences(4, seed=1), strict=True)]
    quantize(model, both, distilbert_tokenizer(), max_length=32, linears=False)
    assert "quantize: the tokenizer gives no token_type_ids" in caplog.text
