"""Tiny converted models with their teachers and what prepares their inputs, each made once."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, ViTImageProcessor

from inhibitor_transformers import convert
from tests.evaluation import heads
from tests.tasks.modalities.tiny import SIDE, word_tokenizer


class Pair(NamedTuple):
    student: PreTrainedModel
    teacher: PreTrainedModel
    preprocessor: Any


@functools.cache
def vit() -> Pair:
    teacher = heads.vit()
    teacher.config.id2label = {0: "cat", 1: "dog", 2: "frog"}
    torch.manual_seed(1)
    return Pair(convert(teacher, {"pixel_values": torch.randn(2, 3, SIDE, SIDE)}), teacher, image_processor())


@functools.cache
def gpt2() -> Pair:
    teacher = heads.gpt2()
    return Pair(convert(teacher, _ids()), teacher, word_tokenizer(causal=True))


@functools.cache
def bert() -> Pair:
    teacher = heads.bert()
    return Pair(convert(teacher, _ids()), teacher, word_tokenizer(causal=False))


def image_processor() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.4, 0.5, 0.6], image_std=[0.5] * 3)


def saved(pair: Pair, folder: Any) -> tuple[str, str]:
    """The folders of student and teacher; the preprocessor is beside the teacher."""
    student, teacher = folder / "student", folder / "teacher"
    pair.student.save_pretrained(student)
    pair.teacher.save_pretrained(teacher)
    pair.preprocessor.save_pretrained(teacher)
    return str(student), str(teacher)


def _ids() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.arange(3, 13)[None], "attention_mask": torch.ones(1, 10, dtype=torch.long)}
