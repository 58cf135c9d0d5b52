"""Extracts English prose that every machine with Python has: documentation, without code and markup."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..common.progress import track

_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "turtledemo"}
_MIN_WORDS = 8
_MAX_PARAGRAPHS = 12

_MARKUP = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),  # Markdown image
    (re.compile(r"\[([^\]]+)\](\([^)]*\)|\[[^\]]*\])"), r"\1"),  # Markdown link
    (re.compile(r":[\w:+-]+:`~?\.?([^`<]+?)(\s*<[^`>]*>)?`"), r"\1"),  # reST role
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{1,2}"), r"\1"),  # reST link
    (re.compile(r"<[^<>]{1,200}>"), ""),  # HTML
    (re.compile(r"`+([^`]+)`+_{0,2}"), r"\1"),  # literals
    (re.compile(r"\*{1,2}(\w[^*]*\w|\w)\*{1,2}"), r"\1"),  # emphasis
)
_BULLET = re.compile(r"^\s*([*+•-]|\d+[.)]|\(\w\)|#{1,6}|>)\s+")
_CODE_LINE = re.compile(
    r"^\s*(>>>|\.\.\. |\$ |%|\.\. |:\w|@|\||```|~~~|import |from \w+ import |def |class |return\b)|::="
)
_WORD = re.compile(r"[(\"'“‘]*[A-Za-z]+(['’-][A-Za-z]+)*[)\"'”’]*[.,;:!?]*[)\"'”’]*")
_COMMON = frozenset(
    (
        "the",
        "a",
        "an",
        "is",
        "are",
        "be",
        "of",
        "to",
        "in",
        "and",
        "or",
        "for",
        "that",
        "this",
        "it",
        "with",
        "as",
        "if",
        "not",
        "on",
        "by",
        "from",
        "can",
        "when",
    )
)


def english_on_this_machine(max_texts: int | None = None, seed: int = 0) -> list[str]:
    """Distinct passages of English prose, of 8 to several hundred words, in an order drawn with `seed`.

    From Python's reference topics, the docstrings of the standard library (read, not imported) and
    the descriptions of installed packages. The same machine gives the same list; another Python or
    other packages give another one. Each passage is one to twelve consecutive paragraphs of
    one document. Raises ValueError.
    """
    if max_texts is not None and max_texts < 1:
        raise ValueError(f"max_texts must be at least 1, got {max_texts}")
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    passages: list[str] = []
    for document in track(_documents(), "reading text on this machine", unit="documents"):
        fresh = []
        for paragraph in _prose_paragraphs(document):
            if paragraph not in seen:
                seen.add(paragraph)
                fresh.append(paragraph)
        passages.extend(_join(fresh, rng))
    return [passages[i] for i in rng.permutation(len(passages))[:max_texts]]


def _join(paragraphs: list[str], rng: np.random.Generator) -> Iterator[str]:
    # Mostly single paragraphs; one passage in ten is longer, so that all lengths of text occur.
    start = 0
    while start < len(paragraphs):
        count = int(rng.integers(2, _MAX_PARAGRAPHS + 1)) if rng.random() < 0.1 else 1
        yield " ".join(paragraphs[start : start + count])
        start += count


def _documents() -> Iterator[str]:
    # Some distributions of Python leave pydoc's data out.
    with contextlib.suppress(ImportError):
        from pydoc_data.topics import topics

        yield from (topics[name] for name in sorted(topics))
    yield from (_module_documentation(path) for path in _standard_library())
    yield from _descriptions()


def _standard_library() -> Iterator[Path]:
    for folder, subfolders, files in os.walk(sysconfig.get_path("stdlib")):
        subfolders[:] = sorted(name for name in subfolders if name not in _SKIPPED_FOLDERS)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def _module_documentation(path: Path) -> str:
    with warnings.catch_warnings():
        # Old string escapes in somebody else's source are not this package's to report.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            return ""
    return "\n\n".join(_docstrings(tree))


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    docstring = ast.get_docstring(node)
    if docstring:
        yield docstring
    # Definitions within if, try and the like are left out: walking every expression takes seconds.
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _docstrings(child)


def _descriptions() -> Iterator[str]:
    described = {}
    for distribution in importlib.metadata.distributions():
        fields = distribution.metadata.json
        described[str(fields.get("name")), distribution.version] = str(fields.get("description", ""))
    yield from (described[key] for key in sorted(described))


def _prose_paragraphs(document: str) -> Iterator[str]:
    """Extract the paragraphs that read as prose, each on one line and without markup."""
    for block in re.split(r"\n\s*\n", re.sub(r"(?ms)^\s*(```|~~~).*?^\s*\1", "\n\n", document)):
        for item in _items(block):
            text = _without_markup(item)
            if _is_prose(text):
                yield text


def _items(block: str) -> Iterator[str]:
    """A block's list items, or the block itself; none where a line is code."""
    if any(_CODE_LINE.search(line) for line in block.splitlines()):
        return
    item: list[str] = []
    for line in block.splitlines():
        if _BULLET.match(line) and item:
            yield " ".join(item)
            item = []
        item.append(_BULLET.sub("", line).strip())
    yield " ".join(item)


def _without_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _is_prose(text: str) -> bool:
    """Whether a paragraph is prose: enough plain words, enough common ones, and a full stop at its end."""
    words = text.split()
    if len(words) < _MIN_WORDS or not text[0].isupper() or text[-1] not in ".!?:)\"'":
        return False
    plain = sum(_WORD.fullmatch(word) is not None for word in words)
    common = sum(word.lower() in _COMMON for word in words)
    return plain >= 0.75 * len(words) and common >= 0.12 * len(words)
