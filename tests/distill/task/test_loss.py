"""The loss of a task against a computation by hand, row by row without padding."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import BertForSequenceClassification

from inhibitor_transformers.distill.task.loss import TaskLoss
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification
from tests.distill.by_hand import ROWS, rows_of, squared, with_other_padding
from tests.distill.tiny import bert, padded_batch


class TestTaskLoss:
    LABELS = torch.tensor([1, 0, 2])

    def models(self, num_labels: int = 3):
        model = bert(BertForSequenceClassification, num_labels=num_labels)
        student = InhibiDistilBertForSequenceClassification.from_teacher(model)
        return student, Teacher(model)

    def test_without_a_teacher_it_is_the_model_s_own_loss(self):
        student, _ = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        terms = TaskLoss(regression=False)(student, batch, 3)
        assert list(terms) == ["task"]
        with torch.no_grad():
            own = student(batch["input_ids"], attention_mask=batch["attention_mask"], labels=self.LABELS).loss
        assert terms["task"].item() == pytest.approx(float(own), rel=1e-6)

    def test_with_a_teacher_by_hand(self):
        student, teacher = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        criterion = TaskLoss(
            regression=False, teacher=teacher, alpha_task=0.3, alpha_soft=0.7, alpha_hidden=0.2, temperature=3.0
        )
        terms = criterion(student, batch, 3)
        task = soft = hidden = 0.0
        for row in rows_of(batch):
            inputs = {"input_ids": row["input_ids"], "output_hidden_states": True}
            with torch.no_grad():
                ours, theirs = student(**inputs), teacher.model(**inputs)
            s, t = ours.logits[0].double(), theirs.logits[0].double()
            task -= float(s.log_softmax(-1)[row["labels"]])
            soft += 9 * float(((t / 3).softmax(-1) * ((t / 3).log_softmax(-1) - (s / 3).log_softmax(-1))).sum())
            hidden += squared(ours.hidden_states[-1], theirs.hidden_states[-1]) / row["input_ids"].shape[1]
        expected = {"task": 0.3 * task / 3, "soft_targets": 0.7 * soft / 3, "hidden": 0.2 * hidden / 3}
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)

    def test_hidden_states_count_only_where_they_are_wanted(self):
        student, teacher = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        terms = TaskLoss(regression=False, teacher=teacher, alpha_soft=0.5)(student, batch, 3)
        assert list(terms) == ["task", "soft_targets"]

    def test_a_regression_compares_logits(self):
        student, teacher = self.models(num_labels=1)
        batch = padded_batch(ROWS) | {"labels": torch.tensor([0.5, 4.0, 2.5])}
        criterion = TaskLoss(regression=True, teacher=teacher, alpha_task=0.5, alpha_soft=2.0, temperature=9.0)
        terms = criterion(student, batch, 3)
        with torch.no_grad():
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            ours, theirs = (m(**inputs).logits[:, 0].tolist() for m in (student, teacher.model))
        task = sum((s - y) ** 2 for s, y in zip(ours, [0.5, 4.0, 2.5], strict=True)) / 3
        soft = sum((s - t) ** 2 for s, t in zip(ours, theirs, strict=True)) / 3
        assert terms["task"].item() == pytest.approx(0.5 * task, rel=1e-4)
        assert terms["soft_targets"].item() == pytest.approx(2.0 * soft, rel=1e-4)

    def test_segment_ids_reach_teacher_and_student(self):
        student, teacher = self.models()
        assert student.config.type_vocab_size == 2
        batch = padded_batch([12, 12, 12]) | {"labels": self.LABELS}
        segments = torch.zeros_like(batch["input_ids"])
        segments[:, 6:] = 1
        criterion = TaskLoss(regression=False, teacher=teacher, alpha_soft=1.0)
        found = criterion(student, batch | {"token_type_ids": segments}, 3)
        with torch.no_grad():
            inputs = {"input_ids": batch["input_ids"], "token_type_ids": segments}
            s, t = (m(**inputs).logits.double() for m in (student, teacher.model))
        soft = float((t.softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum()) / 3
        assert found["soft_targets"].item() == pytest.approx(soft, rel=1e-4)
        without = criterion(student, batch, 3)
        assert all(not math.isclose(found[name].item(), without[name].item(), rel_tol=1e-4) for name in found)

    def test_what_stands_in_padding_does_not_matter(self):
        student, teacher = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        criterion = TaskLoss(regression=False, teacher=teacher, alpha_soft=1.0, alpha_hidden=1.0)
        first, second = criterion(student, batch, 3), criterion(student, with_other_padding(batch), 3)
        assert all(torch.equal(first[name], second[name]) for name in first)
