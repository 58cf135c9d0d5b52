"""Perplexity and next-token agreement against loops over single tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.evaluation.causal_lm import next_token_agreement, perplexity, until_end
from inhibitor_transformers.tasks.modalities import IGNORED
from tests.evaluation.heads import END, VOCABULARY, gpt2


def prompts(rows: int, length: int = 5) -> dict[str, Tensor]:
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def test_perplexity_is_that_of_single_tokens() -> None:
    model = gpt2()
    batch = prompts(3, 6)
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][1, 3:] = IGNORED  # padding on the right
    losses = []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        for i in range(1, 6):
            if labels[i] != IGNORED:
                probabilities = model(ids[None, :i]).logits[0, -1].softmax(-1)
                losses.append(-math.log(float(probabilities[ids[i]])))
    assert len(losses) == 5 + 2 + 5
    expected = math.exp(sum(losses) / len(losses))
    assert perplexity(model, [batch]) == pytest.approx(expected, rel=1e-5)
    halves = [{name: tensor[rows] for name, tensor in batch.items()} for rows in (slice(0, 1), slice(1, 3))]
    assert perplexity(model, halves) == pytest.approx(expected, rel=1e-5)


def test_perplexity_of_a_uniform_guess_is_the_vocabulary() -> None:
    model = gpt2()
    torch.nn.init.zeros_(model.lm_head.weight)
    batch = prompts(2) | {"labels": prompts(2)["input_ids"]}
    assert perplexity(model, [batch]) == pytest.approx(VOCABULARY, rel=1e-6)


def test_perplexity_of_nothing() -> None:
    with pytest.raises(ValueError, match="no token to predict"):
        perplexity(gpt2(), [prompts(2, 1) | {"labels": prompts(2, 1)["input_ids"]}])


@torch.no_grad()
def written_by(teacher: torch.nn.Module, ids: Tensor, new_tokens: int, end: int | None = None) -> list[int]:
    """The greedy continuation of (N,) ids, token by token, up to and with the end token."""
    text = ids.tolist()
    for _ in range(new_tokens):
        text.append(int(teacher(torch.tensor([text])).logits[0, -1].argmax()))
        if text[-1] == end:
            break
    return text


@torch.no_grad()
@pytest.mark.parametrize("end", [None, END])
def test_agreement_is_that_of_single_tokens(end: int | None) -> None:
    teacher, student = gpt2(0, end=end), gpt2(0, end=end)
    for parameter in student.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.15)
    batch, agreed, count = prompts(6), 0, 0
    for ids in batch["input_ids"]:
        text = written_by(teacher, ids, 8, end)
        for i in range(5, len(text)):
            agreed += int(student(torch.tensor([text[:i]])).logits[0, -1].argmax()) == text[i]
            count += 1
    assert 0 < agreed < count
    assert next_token_agreement(student, teacher, [batch], new_tokens=8) == pytest.approx(agreed / count)


def test_a_teacher_agrees_with_itself_with_padding_on_the_left_too() -> None:
    batch = prompts(4)
    batch["attention_mask"][1, :2] = 0
    assert next_token_agreement(gpt2(), gpt2(), [batch], new_tokens=8) == 1.0


def test_agreement_of_no_prompt() -> None:
    with pytest.raises(ValueError, match="no prompt was given"):
        next_token_agreement(gpt2(), gpt2(), [])


def test_tokens_until_the_end() -> None:
    written = torch.tensor([[5, 2, 2], [5, 6, 7], [9, 5, 0]])
    assert until_end(written, 2).tolist() == [[True, True, False], [True] * 3, [True] * 3]
    assert until_end(written, [2, 9]).tolist() == [[True, True, False], [True] * 3, [True, False, False]]
    assert until_end(written, None).all()
