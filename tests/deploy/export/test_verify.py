"""A model that is not the model is found, whatever differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from inhibitor_transformers.deploy.export.tracing import Tensors
from inhibitor_transformers.deploy.export.verify import largest_difference
from tests.models.tiny import POSITIONS, tiny_student

Change = Callable[[Tensors, Tensors], Tensors]
TOLERANCE = 1e-4


def difference(model: Any, change: Change) -> float:
    """Of `model` and of its own outputs after `change(inputs, outputs)`."""
    return largest_difference(model, lambda inputs: change(inputs, dict(model(**inputs))), TOLERANCE)


def test_the_model_is_itself() -> None:
    assert difference(tiny_student("ForQuestionAnswering"), lambda _, out: out) == 0.0


def test_the_difference_is_relative_to_the_largest_number_of_its_output() -> None:
    model = tiny_student()
    largest = 0.0

    def add(inputs: Tensors, out: Tensors) -> Tensors:
        nonlocal largest
        hidden = out["last_hidden_state"]
        largest = max(largest, hidden.abs().max().item())
        return {"last_hidden_state": hidden + 1e-5} if hidden.shape[1] == POSITIONS else out

    assert difference(model, add) == pytest.approx(1e-5 / largest, rel=0.1)


@pytest.mark.parametrize("wrong", [2 * TOLERANCE, float("nan"), float("inf")])
def test_one_wrong_number_for_one_length(wrong: float) -> None:
    model = tiny_student("ForSequenceClassification")

    def spoil(inputs: Tensors, out: Tensors) -> Tensors:
        if inputs["input_ids"].shape[1] == 33:
            out["logits"][2, 1] += 10 * wrong
        return out

    with pytest.raises(
        ValueError, match=r"is not the model: logits differs by .* allowed is 1e-04; nothing was written"
    ):
        difference(model, spoil)


def test_an_output_that_is_always_zero_must_be_zero() -> None:
    model = tiny_student("ForSequenceClassification")
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)
    assert difference(model, lambda _, out: out) == 0.0
    with pytest.raises(ValueError, match="differs by inf"):
        difference(model, lambda _, out: {"logits": out["logits"] + 1e-9})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, out: {"others": out["last_hidden_state"]}, "the exported model returns {'others'"),
        (lambda _, out: {"last_hidden_state": out["last_hidden_state"][:, :1]}, r"\(5, 1, 16\)"),
        (lambda _, out: {}, "the exported model returns {}, the model {'last_hidden_state'"),
    ],
)
def test_other_outputs(change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference(tiny_student(), change)
