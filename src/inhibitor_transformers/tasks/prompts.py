"""Texts that are given on the command line, as they are or in files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..common.paths import expand_user
from .text import load_texts


def read_prompts(given: Sequence[str], count: int) -> list[str]:
    """The first `count` texts: of each existing file or folder those in it, in their order; any other text is itself.

    Raises FileNotFoundError for what is written as a path to no file, ValueError for an empty text and a count below 1.
    """
    if count < 1:
        raise ValueError(f"the number of texts must be at least 1, got {count}")
    found: list[str] = []
    for text in given:
        path = expand_user(text)
        if not text.strip():
            raise ValueError("a text to continue is empty")
        if os.path.lexists(path):
            found += load_texts(path, max_texts=count, min_words=1, shuffle=False)
        elif len(text.split()) == 1 and (
            os.sep in text or path.suffix.lower() in (".txt", ".csv", ".jsonl", ".parquet")
        ):
            raise FileNotFoundError(f"{text}: no such file of texts")
        else:
            found.append(text)
    return found[:count]
