"""The pages that readers see, and what each of their lines is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(page for page in DOCS.rglob("*.md") if not page.relative_to(DOCS).parts[0].startswith("_")),
]
CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))


class Passage(NamedTuple):
    """A line of a page and what it is: "text", "table", "math", "code" or the language of a fenced block."""

    number: int
    line: str
    kind: str


def passages(text: str) -> Iterator[Passage]:
    fence, formula = None, False
    for number, line in enumerate(text.splitlines(), 1):
        within, formula = formula, formula ^ (fence is None and line.count("$$") % 2 == 1)
        if mark := re.match(r"\s*```\s*([\w-]*)", line):
            fence = (mark[1] or "code") if fence is None else None
            yield Passage(number, line, "code")
        elif fence is not None:
            yield Passage(number, line, fence)
        elif within or formula or line.startswith("$$"):
            yield Passage(number, line, "math")
        elif line.startswith("    "):
            yield Passage(number, line, "code")
        else:
            yield Passage(number, line, "table" if line.startswith("|") else "text")


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))
