"""Tiny teachers and texts on disk, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import BertForMaskedLM

from tests.distill.chains import CALIBRATE, settings, trained
from tests.distill.tiny import bert, saved, sentences, text_file


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
    return settings(teacher_path, text_path, [CALIBRATE, trained("align_contexts"), trained("align_hidden")])
