"""Models side by side: each with its own tokenizer, each with its speed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertForSequenceClassification

from inhibitor_transformers.evaluation import compare
from inhibitor_transformers.evaluation.compare import by_agreement, by_task, by_zero_shot
from inhibitor_transformers.evaluation.similarity import agreement, embed, rank_correlation
from inhibitor_transformers.evaluation.task_score import predict, score_task
from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification, InhibiDistilBertModel
from inhibitor_transformers.models.pretrained import load_tokenizer
from inhibitor_transformers.tasks import TaskData, encode, get_task
from tests.distill.tiny import bert, bert_tokenizer, roberta, roberta_tokenizer, saved, sentences
from tests.evaluation.test_task_score import pairs

CPU = torch.device("cpu")
TEXTS = sentences(30, clauses=(2, 12))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    teacher = bert()
    return {
        "teacher": saved(teacher, folder / "teacher"),
        "student": saved(InhibiDistilBertModel.from_teacher(teacher), folder / "student"),
        "other": saved(roberta(), folder / "other", roberta_tokenizer()),
    }


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("classifiers")
    teacher = bert(BertForSequenceClassification)
    student = InhibiDistilBertForSequenceClassification.from_teacher(teacher)
    return {"a": saved(teacher, folder / "a"), "b": saved(student, folder / "b")}


def speed_of(row: dict[str, dict[str, float]]) -> float:
    ((_, value),) = row["speed"].items()
    return value


def test_by_task(classifiers):
    task = get_task("mrpc")
    data = TaskData(task, pairs(4), {"validation": pairs(20)})
    rows = by_task(classifiers, data, CPU, 64)
    assert list(rows) == ["a", "b"]
    model = BertForSequenceClassification.from_pretrained(classifiers["a"])
    assert rows["a"]["validation"] == score_task(model, bert_tokenizer(), data, max_length=64)["validation"]
    assert all(speed_of(row) > 0 for row in rows.values())


def test_by_zero_shot_each_with_its_own_tokenizer(sources):
    columns = {"sentence1": TEXTS[:12], "sentence2": TEXTS[12:24], "label": [float(i % 5) for i in range(12)]}
    rows = by_zero_shot(sources, columns, CPU, max_length=64)
    assert list(rows) == ["teacher", "student", "other"]
    for name, source in sources.items():
        model, tokenizer = AutoModel.from_pretrained(source), load_tokenizer(source)
        a, b = (embed(model, tokenizer, columns[c], max_length=64) for c in ("sentence1", "sentence2"))
        expected = rank_correlation((a * b).sum(-1), torch.tensor(columns["label"]))
        assert rows[name]["zero-shot"]["spearman"] == pytest.approx(expected)
        assert speed_of(rows[name]) > 0


def test_by_agreement_with_the_first(sources):
    chosen = {name: sources[name] for name in ("teacher", "student")}
    rows = by_agreement(chosen, TEXTS, [16, 32], CPU)
    teacher, student = (AutoModel.from_pretrained(source) for source in chosen.values())
    expected = agreement(student, teacher, bert_tokenizer(), TEXTS, [16, 32])
    assert rows["student"]["mean cosine"] == pytest.approx({f"{n} tokens": v for n, v in expected.items()})
    assert list(rows["teacher"]["mean cosine"].values()) == pytest.approx([1.0, 1.0], abs=1e-6)


def test_agreement_of_models_with_other_tokenizers_is_refused(sources):
    """It was measured all the same, with the first model's ids fed to a model that they meant nothing to."""
    with pytest.raises(ValueError, match="must share a tokenizer"):
        by_agreement({name: sources[name] for name in ("teacher", "other")}, TEXTS, [16], CPU)


def test_agreement_of_models_of_other_widths_is_refused(sources, tmp_path):
    narrow = saved(bert(hidden_size=16), tmp_path / "narrow")
    with pytest.raises(ValueError, match="embeddings of 'narrow' have 16 numbers, of 'teacher' 32"):
        by_agreement({"teacher": sources["teacher"], "narrow": narrow}, TEXTS, [16], CPU)


def test_inputs_longer_than_a_model_are_refused(sources, classifiers):
    """They ended in an IndexError of the position embeddings."""
    with pytest.raises(ValueError, match=r"teacher: 161 tokens are more than this bert model can read \(160\)"):
        by_agreement({"teacher": sources["teacher"]}, TEXTS, [161], CPU)
    with pytest.raises(ValueError, match=r"other: 200 tokens are more than this roberta model can read \(160\)"):
        by_zero_shot({"other": sources["other"]}, {}, CPU, max_length=200)
    with pytest.raises(ValueError, match="can read"):
        by_task(classifiers, TaskData(get_task("mrpc"), pairs(1), {}), CPU, 200)


def test_a_model_without_a_head_is_refused(sources):
    with pytest.raises(ValueError, match="would be random"):
        by_task({"student": sources["student"]}, TaskData(get_task("mrpc"), pairs(1), {}), CPU, 64)


def test_speed_is_measured_at_a_length_that_all_can_read(sources, tmp_path, monkeypatch):
    short = saved(bert(max_position_embeddings=40), tmp_path / "short")
    seen = []
    monkeypatch.setattr(
        compare, "sequences_per_second", lambda models, b, n: seen.append((b, n)) or dict.fromkeys(models, 1.0)
    )
    rows = by_agreement({"short": short, "teacher": sources["teacher"]}, TEXTS, [16], CPU)
    by_agreement({"teacher": sources["teacher"]}, TEXTS, [16], CPU)
    assert seen == [(8, 40), (8, 128)]
    assert rows["short"]["speed"] == {"sequences/s, 8 x 40": 1.0}


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
