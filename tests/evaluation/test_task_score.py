"""Predictions come back in the order of the examples, whatever batches they were made in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertForSequenceClassification

from inhibitor_transformers.evaluation import task_score
from inhibitor_transformers.evaluation.task_score import predict, score_task
from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification
from inhibitor_transformers.tasks import TaskData, encode, get_task
from tests.distill.tiny import bert, bert_tokenizer, distilbert_tokenizer, sentences

TOKENIZER = bert_tokenizer()


def pairs(count: int, *, seed: int = 0) -> Dataset:
    labels = np.random.default_rng(seed).integers(0, 2, size=count).tolist()
    first, second = sentences(count, seed=seed, clauses=(1, 6)), sentences(count, seed=seed + 1, clauses=(1, 6))
    return Dataset.from_dict({"sentence1": first, "sentence2": second, "label": labels})


@pytest.fixture(params=["softmax", "inhibitor"])
def model(request):
    softmax = bert(BertForSequenceClassification)
    return softmax if request.param == "softmax" else InhibiDistilBertForSequenceClassification.from_teacher(softmax)


def test_each_example_is_predicted_as_if_it_were_alone(model, monkeypatch):
    monkeypatch.setattr(task_score, "_BATCH", 3)
    rows = pairs(10)
    found = predict(model, TOKENIZER, encode(rows, TOKENIZER, get_task("mrpc"), 64))
    assert found.shape == (10, 2)
    assert found.dtype == np.float32
    for row, logits in zip(rows, found, strict=True):
        inputs = TOKENIZER(row["sentence1"], row["sentence2"], truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).logits[0].numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_a_model_in_training_mode_is_evaluated():
    model = bert(BertForSequenceClassification, hidden_dropout_prob=0.5)
    encoded = encode(pairs(5), TOKENIZER, get_task("mrpc"), 64)
    expected = predict(model, TOKENIZER, encoded)
    np.testing.assert_array_equal(predict(model.train(), TOKENIZER, encoded), expected)


def test_segments_make_a_difference(model):
    """The pipeline that feeds a teacher: without segment ids it would say something else."""
    rows, task = pairs(8), get_task("mrpc")
    with_segments = predict(model, TOKENIZER, encode(rows, TOKENIZER, task, 64))
    without = predict(model, distilbert_tokenizer(), encode(rows, distilbert_tokenizer(), task, 64))
    assert not np.allclose(with_segments, without, atol=1e-3)


def test_every_metric_on_every_split(model):
    task = get_task("mrpc")
    data = TaskData(task, pairs(4), {"validation": pairs(20), "test": pairs(12, seed=3)})
    scores = score_task(model, TOKENIZER, data, max_length=64)
    assert {split: list(values) for split, values in scores.items()} == {
        "validation": ["f1", "accuracy"],
        "test": ["f1", "accuracy"],
    }
    for split, rows in data.evaluation.items():
        predicted = predict(model, TOKENIZER, encode(rows, TOKENIZER, task, 64)).argmax(-1)
        assert scores[split]["accuracy"] == pytest.approx((predicted == np.asarray(rows["label"])).mean())


def test_a_regression():
    model = bert(BertForSequenceClassification, num_labels=1)
    rows = pairs(20)
    encoded = encode(rows, TOKENIZER, get_task("stsb"), 64)
    answers = predict(model, TOKENIZER, encoded)[:, 0]
    labeled = rows.remove_columns("label").add_column("label", (2 * answers + 1).tolist())
    scores = score_task(model, TOKENIZER, TaskData(get_task("stsb"), labeled, {"validation": labeled}), max_length=64)
    assert scores["validation"] == pytest.approx({"pearson": 1.0, "spearman": 1.0})
