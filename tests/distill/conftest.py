"""Tiny teachers and texts on disk, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, BertForMaskedLM

from inhibitor_transformers.distill.task import FinetuneResult
from inhibitor_transformers.models import InhibiDistilBertModel
from inhibitor_transformers.tasks import TaskData
from tests.distill.chains import CALIBRATE, settings, trained
from tests.distill.fine_tuning import custom, run
from tests.distill.tiny import bert, reviews, saved, sentences, text_file


@pytest.fixture(scope="session")
def teacher_path(tmp_path_factory) -> str:
    """A BERT encoder without a head, and its tokenizer."""
    return saved(bert(), tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def masked_lm_path(tmp_path_factory) -> str:
    """A BERT with a masked-LM head and dropout, and its tokenizer."""
    model = bert(BertForMaskedLM, hidden_dropout_prob=0.1)
    return saved(model, tmp_path_factory.mktemp("masked_lm"))


@pytest.fixture(scope="session")
def text_path(tmp_path_factory) -> str:
    return text_file(Path(tmp_path_factory.mktemp("text")), sentences(300))


@pytest.fixture
def chain(teacher_path, text_path) -> dict[str, Any]:
    return settings(teacher_path, text_path, [CALIBRATE, trained("align_attention"), trained("align_hidden")])


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> TaskData:
    return custom(tmp_path_factory.mktemp("reviews"), reviews(240), reviews(60, seed=1))


@pytest.fixture(scope="session")
def student_path(tmp_path_factory, teacher_path) -> str:
    student = InhibiDistilBertModel.from_teacher(AutoModel.from_pretrained(teacher_path))
    return saved(student, tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, teacher_path, data) -> tuple[str, FinetuneResult]:
    """A BERT fine-tuned on the reviews, by the very function under test, and what that returned."""
    folder = tmp_path_factory.mktemp("fine-tuned") / "teacher"
    return str(folder), run(teacher_path, data, folder, num_train_epochs=3)
