"""The functions of cells, as Liberty writes them, on arrays of bits: `(A B)+!C` → a function of A, B, C."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product

import numpy as np

Function = Callable[..., np.ndarray]
"""One array of unsigned integers per pin → the output's; every bit of a word is a case of its own."""


@cache
def compile_function(text: str, pins: tuple[str, ...]) -> Function:
    """The function of `pins`, in their order. Raises ValueError for text that is no function of them.

    ! and ' negate; ^ binds closer than * & and a blank (and), which bind closer than + | (or).
    """
    tokens = re.findall(r"[A-Za-z_]\w*|[01!'^*&+|()]", text)
    if "".join(tokens) != re.sub(r"\s", "", text) or not tokens:
        raise ValueError(f"{text!r} is no function of a cell")
    python = _Parser(tokens, pins).parse()
    arguments = ", ".join(f"p{i}" for i in range(len(pins)))
    function: Function = eval(f"lambda {arguments}: {python}", {"__builtins__": {}})  # of p0, ~, &, |, ^, 0 alone
    return function


def truth_table(function: Function, inputs: int) -> tuple[int, ...]:
    """The output for every input, counted up with the last pin as the lowest bit."""
    cases = np.array(list(product((0, 1), repeat=inputs)), dtype=np.uint64).T
    return tuple(int(bit) & 1 for bit in np.broadcast_to(function(*cases), 2**inputs))


class _Parser:
    """Recursive descent, one method per strength of binding."""

    def __init__(self, tokens: Sequence[str], pins: Sequence[str]) -> None:
        self.tokens = [*tokens, ""]
        self.names = {pin: f"p{i}" for i, pin in enumerate(pins)}
        self.at = 0

    def parse(self) -> str:
        python = self.any_of()
        if self.tokens[self.at]:
            self.fail()
        return python

    def any_of(self) -> str:
        terms = [self.all_of()]
        while self.tokens[self.at] in ("+", "|"):
            self.at += 1
            terms.append(self.all_of())
        return f"({' | '.join(terms)})"

    def all_of(self) -> str:
        terms = [self.odd_of()]
        while self.tokens[self.at] not in ("", "+", "|", ")"):
            self.at += self.tokens[self.at] in ("*", "&")
            terms.append(self.odd_of())
        return f"({' & '.join(terms)})"

    def odd_of(self) -> str:
        terms = [self.factor()]
        while self.tokens[self.at] == "^":
            self.at += 1
            terms.append(self.factor())
        return f"({' ^ '.join(terms)})"

    def factor(self) -> str:
        token = self.tokens[self.at]
        self.at += 1
        if token == "!":
            return f"~{self.factor()}"
        if token == "(":
            python = self.any_of()
            if self.tokens[self.at] != ")":
                self.fail()
            self.at += 1
        elif token in self.names:
            python = self.names[token]
        else:
            self.at -= 1
            self.fail()
        while self.tokens[self.at] == "'":
            self.at += 1
            python = f"~{python}"
        return python

    def fail(self) -> None:
        raise ValueError(f"{self.tokens[self.at]!r} is not expected in a function of {', '.join(self.names)}")
