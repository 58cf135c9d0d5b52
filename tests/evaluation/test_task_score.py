"""Predictions come back in the order of the examples; a score is of the task's labels, or there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification

from inhibitor_transformers.evaluation import task_score
from inhibitor_transformers.evaluation.task_score import label_order, predict, score_task
from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification
from inhibitor_transformers.tasks import TaskData, encode, get_task
from inhibitor_transformers.tasks.own_data import infer_task
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


def named(*names: str, **fields) -> BertConfig:
    return BertConfig(id2label=dict(enumerate(names)), num_labels=len(names), **fields)


def own(*names: str):
    return infer_task({"text": ["a", "b"] * 5, "label": [*names, *names] * 5}, "file")


SST2, MNLI, STSB, RTE = map(get_task, ("sst2", "mnli", "stsb", "rte"))


@pytest.mark.parametrize(
    ("config", "task", "order"),
    [
        (named("negative", "positive"), SST2, [0, 1]),
        (named("NEGATIVE", "POSITIVE"), SST2, [0, 1]),
        (named("Positive", "Negative"), SST2, [1, 0]),
        (named("LABEL_0", "LABEL_1"), SST2, [0, 1]),
        (named("0", "1"), SST2, [0, 1]),
        (named("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), MNLI, [2, 1, 0]),
        (named("not-entailment", "Entailment"), RTE, [1, 0]),
        (named("x", "y"), own("x", "y"), [0, 1]),
        (named("y", "x"), own("x", "y"), [1, 0]),
        (named("A", "a"), own("a", "A"), [0, 1]),  # names that differ in case alone
        (named("LABEL_0", "LABEL_1"), own("x", "y"), [0, 1]),
        (named("1", "0"), own("0", "1"), [1, 0]),
        (named("LABEL_0", problem_type="regression"), STSB, [0]),
        (named("score"), STSB, [0]),
    ],
)
def test_names_decide(config, task, order):
    assert label_order(config, task, "it") == order


@pytest.mark.parametrize(
    ("config", "task", "message"),
    [
        (named("no", "yes"), SST2, r"it tells no, yes apart, sst2 negative, positive: it was made for other labels"),
        (named("neg", "pos"), SST2, "it tells neg, pos apart"),
        (named("not_entailment", "entailed"), RTE, "it tells"),
        (named("0", "1"), own("x", "y"), "it tells 0, 1 apart, custom x, y"),
        (named("x", "y"), own("0", "1"), "it tells x, y apart, custom 0, 1"),
        (named("A", "a"), own("a", "b"), "it tells A, a apart"),
        (named("a", "b", "c"), SST2, "it has 3 labels, sst2 has 2"),
        (named("LABEL_0", "LABEL_1"), STSB, "it has 2 labels, stsb has 1"),
        (named("score"), SST2, "it has 1 labels, sst2 has 2"),
        (named("a", problem_type="multi_label_classification"), STSB, "made for multi_label_classification, stsb is a"),
        (named("negative", "positive", problem_type="regression"), SST2, "it was made for regression"),
    ],
)
def test_what_is_not_the_task_s_is_refused(config, task, message):
    with pytest.raises(ValueError, match=message):
        label_order(config, task, "it")
