"""`token_type_ids`: used when the config has segments, ignored when it has none, and never lost on the way."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from tests.models.tiny import CLASSES, inputs_for, outputs_of, student_class, texts, tiny_student


def first_output(name: str, inputs: dict[str, Tensor], segments: int) -> Tensor:
    torch.manual_seed(3)
    return next(iter(outputs_of(tiny_student(name, type_vocab_size=segments), **inputs).values()))


@pytest.mark.parametrize("name", CLASSES)
def test_used_through_every_head(name: str) -> None:
    inputs = inputs_for(name)
    without = {key: value for key, value in inputs.items() if key != "token_type_ids"}
    zeros = inputs | {"token_type_ids": torch.zeros_like(inputs["token_type_ids"])}
    assert not torch.allclose(first_output(name, inputs, 2), first_output(name, without, 2), atol=1e-3)
    assert torch.equal(first_output(name, zeros, 2), first_output(name, without, 2))


@pytest.mark.parametrize("name", CLASSES)
def test_ignored_without_segments(name: str) -> None:
    inputs = inputs_for(name)
    without = {key: value for key, value in inputs.items() if key != "token_type_ids"}
    assert torch.equal(first_output(name, inputs, 0), first_output(name, without, 0))


@pytest.mark.parametrize("name", CLASSES)
def test_named_in_the_signature(name: str) -> None:
    # Trainer(remove_unused_columns=True) drops every column that is not.
    parameters = inspect.signature(student_class(name).forward).parameters
    assert {"input_ids", "attention_mask", "inputs_embeds", "position_ids", "token_type_ids"} <= parameters.keys()


def test_each_choice_has_its_own_segments() -> None:
    model, inputs = tiny_student("ForMultipleChoice", type_vocab_size=2), inputs_for("ForMultipleChoice")
    logits = outputs_of(model, **inputs)["logits"]
    for choice in range(2):
        alone = outputs_of(model, **{key: value[:, choice : choice + 1] for key, value in inputs.items()})["logits"]
        torch.testing.assert_close(logits[:, choice : choice + 1], alone)


@torch.no_grad()
def test_embeddings_are_summed() -> None:
    model, inputs = tiny_student(type_vocab_size=2), inputs_for("Model")
    e, ids, segments = model.embeddings, inputs["input_ids"], inputs["token_type_ids"]
    expected = e.LayerNorm(
        e.word_embeddings.weight[ids] + e.token_type_embeddings.weight[segments] + e.position_embeddings.weight[:7]
    )
    found = model(**inputs, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(found, expected)
    embeds = inputs | {"inputs_embeds": e.word_embeddings(ids)}
    del embeds["input_ids"]
    assert torch.equal(model(**embeds, output_hidden_states=True).hidden_states[0], found)


def test_one_row_of_segments_serves_the_batch() -> None:
    model, inputs = tiny_student(type_vocab_size=2), inputs_for("Model")
    row = inputs | {"token_type_ids": inputs["token_type_ids"][:1]}
    assert torch.equal(model(**row).last_hidden_state, model(**inputs).last_hidden_state)


@pytest.mark.parametrize("shape", [(7, 3), (3, 6), (2, 7), (21,)])
def test_segments_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"token_type_ids must be \(batch, length\) = \(3, 7\), got"):
        tiny_student(type_vocab_size=2)(**texts(), token_type_ids=torch.zeros(shape, dtype=torch.long))
