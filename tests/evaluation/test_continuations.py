"""Continuations against loops over single tokens, and the map of one query."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers import convert
from inhibitor_transformers.evaluation import continuations
from inhibitor_transformers.evaluation.causal_lm import next_token_agreement
from inhibitor_transformers.evaluation.continuations import measure_text, split_text
from inhibitor_transformers.evaluation.passing import record_pairs
from tests.evaluation import converted
from tests.tasks.modalities.tiny import word_tokenizer

PROMPT = "the cat sees a big dog"


def written_by(model: torch.nn.Module, ids: list[int], count: int) -> list[int]:
    text = list(ids)
    for _ in range(count):
        with torch.no_grad():
            text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    return text[len(ids) :]


def test_tokens_are_those_of_greedy_steps() -> None:
    student, teacher, tokenizer = converted.gpt2()
    found = measure_text(student, teacher, tokenizer, PROMPT, new_tokens=12)
    ids = tokenizer(PROMPT)["input_ids"]
    theirs, ours = written_by(teacher, ids, 12), written_by(student, ids, 12)
    assert found.prompt == PROMPT
    assert [token.teacher.strip() for token in found.tokens] == tokenizer.convert_ids_to_tokens(theirs)
    assert [piece.strip() for piece in found.own] == tokenizer.convert_ids_to_tokens(ours)
    assert found.common == next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    choices = [written_by(student, ids + theirs[:i], 1)[0] for i in range(12)]
    assert [token.student.strip() for token in found.tokens] == tokenizer.convert_ids_to_tokens(choices)
    assert [token.agrees for token in found.tokens] == [a == b for a, b in zip(theirs, choices, strict=True)]
    batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    assert found.agreed / 12 == pytest.approx(next_token_agreement(student, teacher, [batch], new_tokens=12))
    assert 0 < found.agreed < 12, "both kinds are tested"


def test_the_map_is_that_of_the_first_difference() -> None:
    student, teacher, tokenizer = converted.gpt2()
    found = measure_text(student, teacher, tokenizer, PROMPT, new_tokens=12)
    first = [token.agrees for token in found.tokens].index(False)
    whole = tokenizer(PROMPT)["input_ids"]
    whole += [tokenizer.convert_tokens_to_ids(token.teacher.strip()) for token in found.tokens[:first]]
    assert [key.strip() for key in found.keys] == tokenizer.convert_ids_to_tokens(whole)
    assert found.maps.query == f"“{found.keys[-1].strip()}”, after which the choices first differ"
    pairs = record_pairs(student, teacher, {"input_ids": torch.tensor([whole])})
    for pair, passing, attention in zip(pairs, found.maps.passing, found.maps.attention, strict=True):
        torch.testing.assert_close(torch.tensor(passing), pair.passing()[0, :, -1].mean(0))
        torch.testing.assert_close(torch.tensor(attention), pair.probabilities[0, :, -1].mean(0))


def test_a_student_that_chooses_alike_shows_the_end_of_the_prompt(monkeypatch) -> None:
    student, teacher, tokenizer = converted.gpt2()
    monkeypatch.setattr(continuations, "generate_greedily", lambda _m, ids, _mask, new: generate(student, ids, new))
    found = measure_text(student, teacher, tokenizer, PROMPT, new_tokens=5)
    assert found.agreed == len(found.tokens) == found.common == 5
    assert found.maps.query == "“dog”, the last of the prompt"
    assert len(found.keys) == 6


def generate(model: torch.nn.Module, ids: torch.Tensor, count: int) -> torch.Tensor:
    return torch.tensor([[*ids[0].tolist(), *written_by(model, ids[0].tolist(), count)]])


def test_long_texts_are_cut(monkeypatch) -> None:
    student, teacher, tokenizer = converted.gpt2()
    monkeypatch.setattr(continuations, "SHOWN_KEYS", 4)
    found = measure_text(student, teacher, tokenizer, "the cat " * 60, new_tokens=12)
    assert len(found.prompt.split()) == 64 - 12, "it has 64 positions"
    assert len(found.keys) == 4
    assert found.cut >= 64 - 12 - 4
    assert all(len(row) == 4 for row in (*found.maps.passing, *found.maps.attention))


def test_an_encoder_has_a_map_alone() -> None:
    student, teacher, tokenizer = converted.bert()
    found = measure_text(student, teacher, tokenizer, PROMPT, new_tokens=12)
    assert (found.tokens, found.own, found.common, found.agreed) == ([], [], 0, 0)
    assert found.keys == ["[CLS]", *PROMPT.split(), "[SEP]"]
    assert found.maps.query == "“[CLS]”, the first"
    (row, *_) = found.maps.attention
    assert sum(row) == pytest.approx(1.0, rel=1e-5)


def test_a_decoder_without_a_head_shows_the_last_token() -> None:
    _, teacher, tokenizer = converted.gpt2()
    bare = teacher.transformer
    made = convert(bare, {"input_ids": torch.arange(3, 13)[None]})
    found = measure_text(made, bare, tokenizer, PROMPT, new_tokens=12)
    assert found.tokens == []
    assert found.maps.query == "“dog”, the last"


def test_more_tokens_than_positions() -> None:
    student, teacher, tokenizer = converted.gpt2()
    with pytest.raises(ValueError, match="--new-tokens must be below 64"):
        measure_text(student, teacher, tokenizer, PROMPT, new_tokens=64)


def test_a_text_without_tokens() -> None:
    student, teacher, tokenizer = converted.gpt2()
    with pytest.raises(ValueError, match="has no tokens"):
        measure_text(student, teacher, tokenizer, " ", new_tokens=4)


def test_pieces_join_to_the_text() -> None:
    tokenizer = word_tokenizer(causal=True)
    assert split_text(tokenizer, tokenizer(PROMPT)["input_ids"]) == ["the", " cat", " sees", " a", " big", " dog"]


def test_half_a_letter_stands_alone() -> None:
    class Bytes:
        def decode(self, ids, **_) -> str:
            return bytes(ids).decode("utf-8", errors="replace")

    pieces = split_text(Bytes(), list("aé".encode()))  # type: ignore[arg-type]
    assert pieces == ["a", "\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}"]
