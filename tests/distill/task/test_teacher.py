"""A task's teacher: its task vector is added, and it reads the segment ids that it was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
)

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.distill.task import FinetuneResult
from inhibitor_transformers.distill.task.loss import TaskLoss
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.evaluation.task_score import score_task
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.fine_tuning import custom, pairs, run
from tests.distill.tiny import bert, bert_tokenizer, distilbert, distilbert_tokenizer, saved, weights_of


@pytest.fixture(scope="module")
def started(student_path, teacher_path, teacher, data, tmp_path_factory) -> tuple[Path, FinetuneResult, str]:
    """(folder, result, what was said) of a run that changes nothing any more."""
    folder, said = tmp_path_factory.mktemp("vector") / "run", []
    sources = {"teacher_source": teacher[0], "teacher_base": teacher_path}
    settings = {"num_train_epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    return folder, run(student_path, data, folder, log=said.append, **sources, **settings), "\n".join(said)


class TestTaskVector:
    """The student starts from what fine-tuning changed in its teacher; of BERT's head there is nothing to take."""

    def test_the_weights_are_the_student_s_and_what_changed(self, started, student_path, teacher_path, teacher):
        ours, before = weights_of(started[0]), weights_of(student_path)
        base, tuned = weights_of(teacher_path), weights_of(teacher[0])
        name, theirs = "transformer.layer.1.ffn.lin1.weight", "encoder.layer.1.intermediate.dense.weight"
        moved = tuned[f"bert.{theirs}"] - base[theirs]
        assert moved.abs().max() > 1e-3
        torch.testing.assert_close(ours[f"distilbert.{name}"], before[name] + moved)

    def test_it_is_scored_before_training(self, started):
        folder, result, said = started
        assert result.initial_scores == result.scores
        accuracy = result.scores["validation"]["accuracy"]
        assert f"with the teacher's task vector on custom validation: accuracy {accuracy:.4f}; its head starts" in said
        record = json.loads((folder / "results.json").read_text())
        assert record["initial_scores"] == result.scores

    def test_the_base_is_recorded_and_a_run_with_another_start_is_not_resumed(
        self, started, student_path, teacher, data
    ):
        folder, *_ = started
        assert "teacher_base" in json.loads((folder / "results.json").read_text())["settings"]
        settings = {"num_train_epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
        with pytest.raises(ConfigError, match="teacher_base"):
            run(student_path, data, folder, teacher_source=teacher[0], resume=True, **settings)

    def test_a_base_without_a_teacher(self, student_path, teacher_path, data, tmp_path):
        with pytest.raises(ConfigError, match="a teacher's base needs the teacher"):
            run(student_path, data, tmp_path / "run", teacher_base=teacher_path)
        assert not (tmp_path / "run").exists()

    def test_a_base_of_another_architecture(self, student_path, teacher, data, tmp_path):
        base = saved(distilbert(), tmp_path / "base")
        with pytest.raises(ValueError, match="was not fine-tuned from a distilbert"):
            run(student_path, data, tmp_path / "run", teacher_source=teacher[0], teacher_base=base)
        assert not (tmp_path / "run").exists()


class Spy:
    """Keeps the batches that objective and teacher were called with."""

    def __init__(self, monkeypatch) -> None:
        self.student: list[dict[str, torch.Tensor]] = []
        self.teacher: list[dict[str, torch.Tensor]] = []
        for cls, kept in ((TaskLoss, self.student), (Teacher, self.teacher)):
            self.watch(monkeypatch, cls, kept)

    @staticmethod
    def watch(monkeypatch, cls: type, kept: list) -> None:
        original = cls.__call__

        def watched(self, *args, **kwargs):
            kept.append(dict(next(a for a in args if not isinstance(a, torch.nn.Module))))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(cls, "__call__", watched)


@pytest.fixture(scope="module")
def pair_teacher(tmp_path_factory):
    """A BERT with segment embeddings, and pairs labeled by its own answers, half of them 1."""
    folder = tmp_path_factory.mktemp("pairs")
    rows, model, tokenizer = pairs(96), bert(BertForSequenceClassification), bert_tokenizer()
    inputs = tokenizer([r["text1"] for r in rows], [r["text2"] for r in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        model.classifier.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
        answers = model(**inputs).logits.argmax(-1).tolist()
    rows = [row | {"label": answer} for row, answer in zip(rows, answers, strict=True)]
    return saved(model, folder / "teacher"), custom(folder / "data", rows[:64], rows[64:])


class TestSegments:
    """A teacher of pairs is fed the segment ids that it was trained with: forgetting them ruined published results."""

    def test_they_reach_teacher_and_student(self, pair_teacher, student_path, tmp_path, monkeypatch):
        path, data = pair_teacher
        spy = Spy(monkeypatch)
        run(student_path, data, tmp_path / "run", teacher_source=path, max_steps=2)
        for batches in (spy.student, spy.teacher):
            assert batches
            for batch in batches:
                segments = batch["token_type_ids"]
                ends = (batch["input_ids"] == 3).int().argmax(1)  # the first [SEP]
                columns = torch.arange(segments.shape[1])
                expected = (columns > ends[:, None]) & batch["attention_mask"].bool()
                assert torch.equal(segments.bool(), expected)

    def test_they_reach_the_teacher_of_a_student_whose_tokenizer_has_none(self, pair_teacher, tmp_path, monkeypatch):
        """A student of DistilBERT and a BERT teacher share their tokens, but only BERT's tokenizer gives segments."""
        path, data = pair_teacher
        student = InhibiDistilBertModel.from_teacher(distilbert())
        assert student.config.type_vocab_size == 0
        source = saved(student, tmp_path / "student", distilbert_tokenizer())
        spy = Spy(monkeypatch)
        result = run(source, data, tmp_path / "run", teacher_source=path, max_steps=2)
        assert all(batch["token_type_ids"].any() for batch in spy.teacher)
        assert result.teacher_scores["validation"]["accuracy"] == 1.0

    def test_a_softmax_distilbert_student_takes_no_harm(self, pair_teacher, tmp_path, monkeypatch):
        path, data = pair_teacher
        model = distilbert(DistilBertForSequenceClassification)
        source = saved(model, tmp_path / "student", distilbert_tokenizer())
        spy = Spy(monkeypatch)
        run(source, data, tmp_path / "run", teacher_source=path, max_steps=2)
        assert all(batch["token_type_ids"].any() for batch in spy.teacher)

    def test_the_teacher_is_scored_with_them(self, pair_teacher, student_path, tmp_path):
        path, data = pair_teacher
        result = run(student_path, data, tmp_path / "run", teacher_source=path, max_steps=2)
        assert result.teacher_scores["validation"]["accuracy"] == 1.0
        model = AutoModelForSequenceClassification.from_pretrained(path)
        blind = score_task(model, distilbert_tokenizer(), data, max_length=32)["validation"]["accuracy"]
        assert blind < 1.0
