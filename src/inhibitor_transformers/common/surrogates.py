"""Halves of characters: JSON and Python can hold them, UTF-8, tokenizers and Arrow cannot."""

from __future__ import annotations

import re

_LONE = re.compile("[\ud800-\udfff]")  # a whole pair is one character in Python


def require_whole_characters(text: str, where: str) -> None:
    """Raise ValueError, naming `where` the text stands, if it holds a lone surrogate."""
    if found := _LONE.search(text):
        raise ValueError(
            f"{where}: half a character, {found[0]!a}, at position {found.start()} of the text (a lone surrogate, "
            "as texts have that were cut within an emoji); mend or remove it"
        )
