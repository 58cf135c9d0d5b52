"""Texts as they stand on a command line, and in files."""

from __future__ import annotations

import pytest

from inhibitor_transformers.tasks.prompts import read_prompts


def test_texts_and_files_in_order(tmp_path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("second\nthird one\nfourth\n")
    assert read_prompts(["first of all", str(file), "last"], 9) == [
        "first of all",
        "second",
        "third one",
        "fourth",
        "last",
    ]
    assert read_prompts([str(file), "last"], 2) == ["second", "third one"]


@pytest.mark.parametrize("text", ["either/or is a question", "Once", "What is in notes.txt?"])
def test_what_looks_like_a_path_within_a_text_is_text(text) -> None:
    assert read_prompts([text], 4) == [text]


@pytest.mark.parametrize("text", ["notes.txt", "texts/lines", "./prompts", "~/gone.jsonl"])
def test_a_path_to_nothing_is_no_text(text) -> None:
    with pytest.raises(FileNotFoundError, match="no such file of texts"):
        read_prompts([text], 4)


def test_nothing_to_continue() -> None:
    with pytest.raises(ValueError, match="is empty"):
        read_prompts(["  "], 4)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        read_prompts(["a text"], 0)
