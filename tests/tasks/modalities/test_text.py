"""Texts padded, packed and with hidden tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inhibitor_transformers.tasks.modalities import (
    IGNORED,
    MaskedTokens,
    PackedText,
    TextExamples,
    load_packed_text,
    load_text,
)
from tests.tasks.modalities.tiny import sentences, word_tokenizer, write_parquet


def test_labels_leave_out_padding() -> None:
    tokenizer = word_tokenizer(causal=False)
    batch = TextExamples(["the cat", "the dog sees a tree"], tokenizer, 6).batch([0, 1])
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist()) == [
        "[CLS]", "the", "cat", "[SEP]", "[PAD]", "[PAD]",
    ]  # fmt: skip
    assert batch["labels"][0].tolist() == [*batch["input_ids"][0, :4].tolist(), IGNORED, IGNORED]
    assert batch["input_ids"].shape == (2, 6)  # the longer one is cut
    assert batch["attention_mask"].sum(1).tolist() == [4, 6]


def test_windows_cut_one_stream() -> None:
    tokenizer = word_tokenizer(causal=True)
    packed = PackedText(["the cat", "a", "the old dog sees"], tokenizer, 3)
    assert len(packed) == 3  # of 10 tokens, the last is dropped
    batch = packed.batch([0, 1, 2])
    words = [tokenizer.convert_ids_to_tokens(row) for row in batch["input_ids"].tolist()]
    assert words == [["the", "cat", "<end>"], ["a", "<end>", "the"], ["old", "dog", "sees"]]
    assert torch.equal(batch["labels"], batch["input_ids"])
    assert batch["attention_mask"].tolist() == [[1, 1, 1]] * 3
    assert packed.batch([2])["input_ids"].tolist() == batch["input_ids"][2:].tolist()


def test_too_little_text_to_pack() -> None:
    with pytest.raises(ValueError, match=r"1 text\(s\) of 3 tokens do not fill a window of 4"):
        PackedText(["the cat"], word_tokenizer(causal=True), 4)


def hidden_tokens(seed: int = 0, fraction: float = 0.5) -> MaskedTokens:
    tokenizer = word_tokenizer(causal=False)
    return MaskedTokens(TextExamples(sentences(20, 8), tokenizer, 32), tokenizer, fraction=fraction, seed=seed)


def test_hidden_tokens_are_the_labels() -> None:
    examples, mask = hidden_tokens(), word_tokenizer(causal=False).mask_token_id
    plain, batch = examples.examples.batch(range(20)), examples.batch(range(20))
    hidden = batch["labels"] != IGNORED
    assert hidden.sum(1).tolist() == [4] * 20
    assert (batch["input_ids"][hidden] == mask).all()
    assert torch.equal(batch["labels"][hidden], plain["input_ids"][hidden])
    assert torch.equal(batch["input_ids"][~hidden], plain["input_ids"][~hidden])
    assert not hidden[:, 0].any()  # [CLS]
    assert not hidden[:, -1].any()  # [SEP]


def test_what_is_hidden_depends_on_seed_and_example_alone() -> None:
    alone = [hidden_tokens().batch([i])["input_ids"][0].tolist() for i in (3, 7)]
    assert hidden_tokens().batch([7, 0, 3])["input_ids"][[2, 0]].tolist() == alone
    assert hidden_tokens(seed=1).batch([3])["input_ids"][0].tolist() != alone[0]


def test_one_token_is_hidden_at_least() -> None:
    assert (hidden_tokens(fraction=0.01).batch(range(20))["labels"] != IGNORED).sum(1).tolist() == [1] * 20


def test_hiding_needs_a_mask_token() -> None:
    tokenizer = word_tokenizer(causal=True)
    with pytest.raises(ValueError, match="the tokenizer has no mask token"):
        MaskedTokens(TextExamples(["the cat"], tokenizer, 8), tokenizer)


def test_a_split_in_its_order(tmp_path: Path) -> None:
    texts = [*sentences(5), "cat"]
    write_parquet(tmp_path / "train.parquet", text=["not this"])
    write_parquet(tmp_path / "validation.parquet", text=texts)
    assert load_text(tmp_path, word_tokenizer(causal=False), max_length=8, split="validation").texts == texts
    packed = load_packed_text(tmp_path, word_tokenizer(causal=True), length=7, split="validation")
    assert len(packed) == 5  # a single word is a heading
    with pytest.raises(FileNotFoundError, match="no file for the split 'test'"):
        load_text(tmp_path, word_tokenizer(causal=False), max_length=8, split="test")


def test_parts_of_a_split(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "train.parquet", text=sentences(200))
    tokenizer = word_tokenizer(causal=False)
    parts = {part: load_text(file, tokenizer, max_length=8, part=part) for part in ("all", "train", "held_out")}
    assert not set(parts["train"].texts) & set(parts["held_out"].texts)
    assert len(parts["train"]) + len(parts["held_out"]) == len(parts["all"]) == 200


def test_wikitext(shared_data: Path) -> None:
    packed = load_packed_text(shared_data / "wikitext-2", word_tokenizer(causal=True), length=128, split="validation")
    assert len(packed) > 1000
    assert packed.batch([5])["input_ids"].shape == (1, 128)
