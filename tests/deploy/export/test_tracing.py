"""What is traced: named inputs with dynamic axes, plain outputs, and samples with padding of every kind."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.deploy.export.tracing import Traceable, dynamic_axes, sample_inputs
from tests.models.tiny import CLASSES, POSITIONS, VOCAB, tiny_student


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_and_what_is_traced_of_it_return_the_same(name: str) -> None:
    model = tiny_student(name)
    for inputs in sample_inputs(model):
        there = dict(model(**inputs))
        found = Traceable(model)(**inputs)
        assert type(found) is dict
        assert found.keys() == there.keys()
        assert all(torch.equal(found[key], there[key]) for key in there)


def test_samples() -> None:
    samples = list(sample_inputs(tiny_student()))
    shapes = [tuple(s["input_ids"].shape) for s in samples]
    assert shapes == [(5, 7), (2, 1), (5, 16), (5, 33), (1, POSITIONS)]
    masks = samples[0]["attention_mask"]
    assert masks.tolist() == [[1] * 7, [1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1], [1, 0, 1, 1, 0, 1, 1], [0] * 7]
    assert all(s["input_ids"].max() < VOCAB for s in samples)
    again = list(sample_inputs(tiny_student()))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(samples, again, strict=True) for key in a)


def test_samples_are_no_longer_than_the_model_allows() -> None:
    model = tiny_student()
    model.config.max_position_embeddings = 8
    assert {s["input_ids"].shape[1] for s in sample_inputs(model)} == {1, 7, 8}


@pytest.mark.parametrize(("segments", "names"), [(0, 2), (2, 3)])
def test_inputs_are_those_that_the_model_reads(segments: int, names: int) -> None:
    model = tiny_student(type_vocab_size=segments)
    assert list(dynamic_axes(model)) == ["input_ids", "attention_mask", "token_type_ids"][:names]
    for inputs in sample_inputs(model):
        assert inputs.keys() == dynamic_axes(model).keys()
    if segments:
        assert {0, 1} == {int(i) for s in sample_inputs(model) for i in s["token_type_ids"].unique()}


def test_choices_are_an_axis() -> None:
    model = tiny_student("ForMultipleChoice")
    assert dynamic_axes(model)["input_ids"] == {0: "batch", 1: "choices", 2: "length"}
    assert next(sample_inputs(model))["input_ids"].shape == (5, 3, 7)
