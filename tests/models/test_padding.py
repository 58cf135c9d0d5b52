"""Padding, other texts in the batch, and keys that are masked change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.tiny import CLASSES, POSITIONS, inputs_for, outputs_of, texts, tiny_student


@pytest.fixture
def model() -> Any:
    return tiny_student()


def hidden(model: Any, **inputs: Tensor) -> Tensor:
    return outputs_of(model, **inputs)["last_hidden_state"]


def padded(ids: Tensor, left: int, right: int) -> dict[str, Tensor]:
    """`ids` (B, N) between random tokens that are masked; positions count from the first valid token."""
    batch, length = ids.shape
    ids = torch.cat([torch.randint(5, 100, (batch, left)), ids, torch.randint(5, 100, (batch, right))], dim=1)
    mask = torch.tensor([0] * left + [1] * length + [0] * right).expand(batch, -1)
    positions = (torch.arange(ids.shape[1]) - left).clamp(min=0).expand(batch, -1)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


@pytest.mark.parametrize(("left", "right"), [(0, 4), (4, 0), (3, 5)])
def test_padding_on_either_side(model: Any, left: int, right: int) -> None:
    ids = texts()["input_ids"]
    found = hidden(model, **padded(ids, left, right))[:, left : left + ids.shape[1]]
    torch.testing.assert_close(found, hidden(model, input_ids=ids), atol=2e-6, rtol=1e-5)


def test_the_content_of_padding_is_never_read(model: Any) -> None:
    inputs = texts()
    other = torch.where(inputs["attention_mask"].bool(), inputs["input_ids"], 1)
    valid = inputs["attention_mask"].bool()
    found = hidden(model, **(inputs | {"input_ids": other}))
    assert not torch.equal(inputs["input_ids"], other)
    assert torch.equal(found[valid], hidden(model, **inputs)[valid])


def test_nan_in_padding_stays_there(model: Any) -> None:
    inputs = texts()
    valid = inputs["attention_mask"].bool()
    embeds = model.embeddings.word_embeddings(inputs["input_ids"]).detach()
    poisoned = embeds.masked_fill(~valid[..., None], float("nan")).requires_grad_()
    found = model(inputs_embeds=poisoned, attention_mask=inputs["attention_mask"]).last_hidden_state
    torch.testing.assert_close(found[valid], hidden(model, **inputs)[valid])
    found[valid].square().sum().backward()
    assert poisoned.grad is not None
    assert poisoned.grad[valid].isfinite().all()


def test_valid_tokens_are_read(model: Any) -> None:
    inputs = texts()
    changed = inputs["input_ids"].clone()
    changed[:, 2] = (changed[:, 2] + 1) % 100
    difference = hidden(model, **inputs) - hidden(model, **(inputs | {"input_ids": changed}))
    assert (difference[:, 0].abs().amax(-1) > 1e-4).all()


def test_batch_mates_do_not_matter(model: Any) -> None:
    inputs = texts(batch=4, length=9)
    together = hidden(model, **inputs)
    for row in range(4):
        ids = inputs["input_ids"][row : row + 1, : 9 - row]
        torch.testing.assert_close(
            together[row : row + 1, : 9 - row], hidden(model, input_ids=ids), atol=2e-6, rtol=1e-5
        )


@pytest.mark.parametrize("name", CLASSES)
def test_heads_ignore_more_padding(name: str) -> None:
    model, inputs = tiny_student(name, type_vocab_size=2), inputs_for(name)
    longer = {key: torch.nn.functional.pad(value, (0, 5)) for key, value in inputs.items()}
    for key, value in outputs_of(model, **inputs).items():
        found = outputs_of(model, **longer)[key]
        found = found if found.shape == value.shape else found[:, :7]
        torch.testing.assert_close(found, value, atol=2e-6, rtol=1e-5)


def test_a_row_of_padding_alone_is_finite(model: Any) -> None:
    inputs = texts()
    inputs["attention_mask"][1] = 0
    found = hidden(model, **inputs)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0], hidden(model, **{k: v[:1] for k, v in inputs.items()})[0])


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_masks_of_ones_and_zeros_in_any_dtype(model: Any, dtype: torch.dtype) -> None:
    inputs = texts()
    found = hidden(model, **(inputs | {"attention_mask": inputs["attention_mask"].to(dtype)}))
    assert torch.equal(found, hidden(model, **inputs))


def test_no_mask_is_a_mask_of_ones(model: Any) -> None:
    ids = texts()["input_ids"]
    assert torch.equal(hidden(model, input_ids=ids), hidden(model, input_ids=ids, attention_mask=torch.ones_like(ids)))


@pytest.mark.parametrize("shape", ["(B, 1, 1, N)", "(B, 1, N, N)", "(B, H, N, N)"])
def test_four_dimensional_bool_masks(model: Any, shape: str) -> None:
    inputs = texts()
    mask = inputs["attention_mask"].bool()[:, None, None, :]
    if shape != "(B, 1, 1, N)":
        mask = mask.expand(-1, 2 if "H" in shape else 1, 7, -1)
    found = hidden(model, input_ids=inputs["input_ids"], attention_mask=mask)
    torch.testing.assert_close(found, hidden(model, **inputs))


def test_a_causal_bool_mask(model: Any) -> None:
    ids = texts()["input_ids"]
    causal = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    found = hidden(model, input_ids=ids, attention_mask=causal)
    for length in (1, 4, 7):
        torch.testing.assert_close(
            found[:, length - 1],
            hidden(model, input_ids=ids[:, :length], attention_mask=causal[..., :length, :length])[:, -1],
        )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(3, 1, 7, 7), "attn_mask must be a bool tensor with True = valid, got torch.float32; additive"),
        (torch.ones(3, 1, 7, 7, dtype=torch.long), "attn_mask must be a bool tensor with True = valid"),
        (torch.ones(3, 1, 7, 8, dtype=torch.bool), "attn_mask must be broadcastable"),
        (torch.ones(3, 7, 7), r"attention_mask must be \(batch, keys\), or bool .*got \(3, 7, 7\)"),
        (torch.ones(2, 7, 7), r"attention_mask must be \(batch, keys\), or bool .*got \(2, 7, 7\)"),
        (torch.ones(3, 5), r"key_padding_mask must have shape \(batch, keys\) = \(3, 7\), got \(3, 5\)"),
        (torch.ones(3, 9), r"key_padding_mask must have shape \(batch, keys\) = \(3, 7\), got \(3, 9\)"),
    ],
    ids=["additive", "integers", "keys", "three dimensions", "as many rows as heads", "too short", "too long"],
)
def test_masks_that_do_not_fit_are_refused(model: Any, mask: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(input_ids=texts()["input_ids"], attention_mask=mask)


def test_texts_longer_than_the_positions_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=f"{POSITIONS + 1} tokens is longer than this model can read"):
        model(input_ids=torch.ones(1, POSITIONS + 1, dtype=torch.long))


@pytest.mark.parametrize("inputs", [{}, {"input_ids": torch.ones(1, 2).long(), "inputs_embeds": torch.ones(1, 2, 16)}])
@pytest.mark.parametrize("type_vocab_size", [0, 2])
def test_ids_or_embeddings_but_not_both(inputs: dict[str, Tensor], type_vocab_size: int) -> None:
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        tiny_student(type_vocab_size=type_vocab_size)(**inputs)
