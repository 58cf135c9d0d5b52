"""A score is of the task's labels, or there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from transformers import BertConfig, BertForSequenceClassification

from inhibitor_transformers.evaluation.compare import by_task
from inhibitor_transformers.evaluation.task_score import label_order, predict, score_task
from inhibitor_transformers.tasks import TaskData, encode, get_task
from inhibitor_transformers.tasks.own_data import infer_task
from tests.distill.tiny import bert, bert_tokenizer, saved
from tests.evaluation.test_task_score import pairs


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


def test_labels_in_another_order_are_found_by_their_names(tmp_path):
    """They were scored as if they were in the task's."""
    rows, task = pairs(20), dataclasses.replace(get_task("mrpc"), metrics=("accuracy",))
    data = TaskData(task, rows, {"validation": rows})
    model = bert(BertForSequenceClassification, id2label={0: "Equivalent", 1: "not equivalent"})
    right = 1 - predict(model, bert_tokenizer(), encode(rows, bert_tokenizer(), task, 64)).argmax(-1)
    expected = pytest.approx((right == np.asarray(rows["label"])).mean())
    assert score_task(model, bert_tokenizer(), data, max_length=64)["validation"]["accuracy"] == expected
    said: list[str] = []
    found = by_task({"a": saved(model, tmp_path)}, data, model.device, 64, said.append)
    assert found["a"]["validation"]["accuracy"] == expected
    assert said == [
        "'a' orders its labels differently from mrpc; they are matched by name: not_equivalent is its output 1, "
        "equivalent is its output 0"
    ]


def test_other_labels_are_refused_before_anything_is_scored(tmp_path):
    model = bert(BertForSequenceClassification, id2label={0: "no", 1: "yes"})
    data = TaskData(get_task("mrpc"), pairs(4), {})
    with pytest.raises(ValueError, match="'b' tells no, yes apart, mrpc not_equivalent, equivalent"):
        by_task({"b": saved(model, tmp_path)}, data, model.device, 64)
