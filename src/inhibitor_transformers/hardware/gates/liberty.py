"""Reads the text format of cell libraries (Liberty) into nested groups.

A reader of our own, because the one on PyPI (liberty-parser) is licensed under the GPL, which this package is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

# Comments, and lines that go on, are dropped; a number's colon or sign never stands alone, so a word is all the rest.
_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|\\\s*\n|\s+|("(?:[^"\\]|\\.)*"|[{}();:,]|[^\s{}();:,"]+)', re.DOTALL)


@dataclass
class Group:
    """`kind (arguments) { … }`: attributes by name (the last one counts) and the groups inside."""

    kind: str
    arguments: list[str]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def all(self, kind: str) -> Iterator[Group]:
        return (group for group in self.groups if group.kind == kind)

    def first(self, kind: str) -> Group | None:
        return next(self.all(kind), None)

    def text(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, [default])[0]

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.text(name, str(default)))

    def numbers(self, name: str) -> np.ndarray:
        """All numbers of a list such as `index_1 ("1, 2")`: float64, one dimension."""
        return np.array(
            [float(number) for text in self.attributes[name] for number in re.split(r"[\s,]+", text.strip())]
        )


def parse(text: str) -> Group:
    """The outermost group of a Liberty file, `library`. Raises ValueError for text that is none."""
    tokens = [token for token in _TOKEN.findall(text) if token]
    try:
        group, _ = _group(tokens, 0)
    except IndexError:
        raise ValueError("no Liberty library: the text ends inside a group") from None
    if group.kind != "library":
        raise ValueError(f"no Liberty library: the text begins with {group.kind!r}")
    return group


def _group(tokens: list[str], at: int) -> tuple[Group, int]:
    """The group whose name is `tokens[at]`, and where the tokens after it begin."""
    arguments, place = _arguments(tokens, at + 1)
    group = Group(tokens[at], arguments)
    if tokens[place] != "{":
        raise ValueError(f"no Liberty library: {{ expected after {tokens[at]!r}, not {tokens[place]!r}")
    place += 1
    while tokens[place] != "}":
        name = tokens[place]
        if name == ";":
            place += 1
        elif tokens[place + 1] == ":":
            end = tokens.index(";", place)
            group.attributes[name] = [" ".join(token.strip('"') for token in tokens[place + 2 : end])]
            place = end + 1
        else:
            values, after = _arguments(tokens, place + 1)
            if tokens[after] == "{":
                inner, place = _group(tokens, place)
                group.groups.append(inner)
            else:
                group.attributes[name] = values
                place = after
    return group, place + 1


def _arguments(tokens: list[str], at: int) -> tuple[list[str], int]:
    """What stands between the parentheses that open at `at`, and where the tokens after them begin."""
    if tokens[at] != "(":
        raise ValueError(f"no Liberty library: ( expected, not {tokens[at]!r}")
    end = tokens.index(")", at)
    return [token.strip('"') for token in tokens[at + 1 : end] if token != ","], end + 1
