"""Weights that are NaN or infinite are refused wherever something is built on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from inhibitor_transformers import (
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertForSequenceClassification,
    InhibiDistilBertModel,
)
from inhibitor_transformers.deploy.quantize import quantize
from inhibitor_transformers.distill.init_from import init_student_from
from inhibitor_transformers.models import add_task_vector, map_layers
from inhibitor_transformers.models.loading import require_finite
from inhibitor_transformers.models.pretrained import load_as_saved, load_pretrained
from inhibitor_transformers.models.softmax_student import softmax_student
from tests.models.tiny import save_tokenizer, tiny_student, tiny_teacher

HEAD = "SequenceClassification"
NAN, INF = float("nan"), float("inf")


@torch.no_grad()
def spoiled(model, name: str, value: float = NAN):
    model.get_parameter(name).view(-1)[-1] = value
    return model


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_first_bad_tensors_are_named(dtype, value):
    model = nn.Sequential(*(nn.Linear(2, 2, dtype=dtype) for _ in range(3)))
    require_finite(model, "it")
    for name in ("0.bias", "1.weight", "2.weight", "2.bias"):
        spoiled(model, name, value)
    with pytest.raises(ValueError, match=r"^it has .* in 4 tensor\(s\): 0.bias, 1.weight, 2.weight, …$"):
        require_finite(model, "it")


def test_saved_buffers_count_and_what_is_not_loaded_does_not():
    norm = nn.BatchNorm1d(2)
    norm.running_mean[0] = NAN
    with pytest.raises(ValueError, match="running_mean"):
        require_finite(norm, "it")
    require_finite(nn.Linear(2, 2, device="meta"), "it")


@pytest.mark.parametrize("load", [load_pretrained, load_as_saved])
def test_loading(load, tmp_path: Path):
    spoiled(tiny_student(), "embeddings.word_embeddings.weight").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has weights .*: embeddings\.word_embeddings\.weight$"):
        load(str(tmp_path))


def test_loading_with_a_head(tmp_path: Path):
    spoiled(tiny_teacher("bert", HEAD), "classifier.bias", INF).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"classifier\.bias"):
        load_pretrained(str(tmp_path), AutoModelForSequenceClassification)


@pytest.mark.parametrize("make", [InhibiDistilBertModel.from_teacher, softmax_student])
def test_students(make):
    teacher = spoiled(tiny_teacher("bert"), "encoder.layer.1.output.dense.weight")
    with pytest.raises(ValueError, match=r"the teacher has weights .*: encoder.layer.1.output.dense.weight"):
        make(teacher)


@pytest.mark.parametrize(
    ("role", "name", "what"),
    [
        (0, "distilbert.transformer.layer.0.ffn.lin1.bias", "the student"),
        (1, "classifier.weight", "the fine-tuned model"),
        (2, "embeddings.LayerNorm.bias", "its base"),
    ],
)
def test_task_vectors(role, name, what):
    """NaN was nearer than any limit, and was added."""
    teacher = tiny_teacher("bert")
    models = [InhibiDistilBertForSequenceClassification.from_teacher(teacher), tiny_teacher("bert", HEAD), teacher]
    spoiled(models[role], name)
    with pytest.raises(ValueError, match=f"{what} has weights .*{name}"):
        add_task_vector(*models)


def test_quantization_of_a_word_that_no_text_has(tmp_path: Path):
    model = spoiled(tiny_student(), "embeddings.word_embeddings.weight")
    with pytest.raises(ValueError, match=r"this InhibiDistilBertModel has weights .*word_embeddings"):
        quantize(model, ["the old cat"], save_tokenizer(tmp_path))


def test_a_head_to_initialize_from(tmp_path: Path):
    """The encoder of a student is loaded first, its head later."""
    tiny = spoiled(tiny_student("ForMaskedLM"), "vocab_transform.bias")
    tiny.save_pretrained(tmp_path)
    teacher = tiny_teacher("bert", "MaskedLM")
    with pytest.raises(ValueError, match=r"init_from: .* has weights .*: vocab_transform\.bias"):
        init_student_from(str(tmp_path), InhibiDistilBertForMaskedLM, teacher, map_layers("all", 2))
