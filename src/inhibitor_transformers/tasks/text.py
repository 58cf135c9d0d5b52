"""Loads plain text from files, folders and the Hub, for stages that need no labels."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..common.paths import expand_user
from ..common.progress import track
from .files import TABLE_SUFFIXES, Columns, read_table, require_text
from .prose import english_on_this_machine

logger = logging.getLogger(__name__)

Text = str | tuple[str, str]  # a text, or two that belong together
TextT = TypeVar("TextT", bound=Text)

THIS_MACHINE = "this-machine"  # the source that every machine with Python has: `english_on_this_machine`
HELD_OUT_FRACTION = 0.1  # of any source of texts; no training sees it
_SALT = b"0\n"  # never to be changed: it decides which texts those are

TEXT_COLUMNS = (
    "text",
    "sentence",
    "sentence1",
    "sentence2",
    "text1",
    "text2",
    "question",
    "question1",
    "question2",
    "premise",
    "hypothesis",
    "content",
    "document",
    "article",
    "passage",
)

PAIR_COLUMNS = (
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_FOLDER_SUFFIXES = (".txt", ".parquet", ".csv", ".tsv", ".jsonl")
_EVALUATION = re.compile(r"(?<![a-z])(validation|valid|val|dev|test|eval|evaluation)(?![a-z])", re.IGNORECASE)
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
_HEADING = re.compile(r"\s*(= )+.*( =)+\s*")
_WRAPPED_WIDTH = 120


class _NoTextColumnError(ValueError):
    """A table has no text column: an error for a single file, skipped in a folder with others."""


def load_texts(
    sources: str | Path | Sequence[str | Path],
    *,
    max_texts: int | None = None,
    min_words: int = 5,
    seed: int = 0,
    shuffle: bool = True,
    unk_token: str = "[UNK]",
) -> list[str]:
    """Load distinct texts of at least `min_words` words from all sources; long texts are not cut.

    A source is a text file; a Parquet, CSV, TSV, JSON or JSON Lines file, of which all columns in
    `TEXT_COLUMNS` are taken; a folder, searched recursively for .txt, .parquet, .csv, .tsv and
    .jsonl files, without files and folders named as validation or test and with the train files
    alone where a folder has some; or a Hub id with or without a configuration
    ("Salesforce/wikitext:wikitext-2-raw-v1"), of which the train split is taken; or "this-machine",
    for `english_on_this_machine`. An existing path wins over a Hub id.

    In a text file each line is a text, unless the file is hard-wrapped (blank lines between blocks,
    hardly a line beyond 120 characters): then each block is one. WikiText's "<unk>" becomes
    `unk_token`, its escaped " @-@ " becomes "-", its headings are dropped. Shuffled with `seed`
    before `max_texts` are taken. Raises ValueError, FileNotFoundError, ConnectionError.
    """
    texts: dict[str, None] = {}
    for source in _list_sources(sources, max_texts):
        columns = (column for table in _tables(source) for column in table.values())
        cleaned = (_clean(text, min_words, unk_token) for column in columns for text in column)
        found = dict.fromkeys(text for text in track(cleaned, f"reading {Path(source).name}", unit="texts") if text)
        if not found:
            raise ValueError(f"{source}: no text of at least {min_words} words")
        texts |= found
    return _choose(list(texts), max_texts, seed, shuffle)


def load_pairs(
    sources: str | Path | Sequence[str | Path],
    *,
    max_texts: int | None = None,
    min_words: int = 5,
    seed: int = 0,
    unk_token: str = "[UNK]",
) -> list[tuple[str, str]]:
    """Load distinct pairs of texts from two columns of `PAIR_COLUMNS`; a source without such columns gives none.

    Sources, cleaning, order and errors are those of `load_texts`; both texts must have `min_words` words.
    """
    pairs: dict[tuple[str, str], None] = {}
    for source in _list_sources(sources, max_texts):
        for table in _tables(source):
            for a, b in PAIR_COLUMNS:
                rows = zip(table.get(a, ()), table.get(b, ()), strict=False)
                for row in track(rows, f"reading pairs of {Path(source).name}", unit="pairs"):
                    first, second = (_clean(text, min_words, unk_token) for text in row)
                    if first and second:
                        pairs[first, second] = None
    return _choose(list(pairs), max_texts, seed)


def split_held_out(texts: Sequence[TextT], fraction: float = HELD_OUT_FRACTION) -> tuple[list[TextT], list[TextT]]:
    """Split texts into (train, held out), about `fraction` held out, by a hash of each text.

    The hash depends on the text alone: no run, whatever its seed, trains on a text that another run holds out. A pair
    is held out with either of its texts. Raises ValueError for a fraction outside (0, 1) and when one side would be
    empty.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    sides: tuple[list[TextT], list[TextT]] = ([], [])
    for text in track(texts, "holding out", unit="texts"):
        parts = (text,) if isinstance(text, str) else text
        sides[any(is_held_out(part, fraction) for part in parts)].append(text)
    if not all(sides):
        raise ValueError(f"{len(texts)} text(s) are too few to hold out a fraction of {fraction:g}")
    return sides


def is_held_out(content: str | bytes, fraction: float = HELD_OUT_FRACTION) -> bool:
    """Whether a text, or the encoded bytes of an image or recording, is held out: decided by a hash of it alone."""
    encoded = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    digest = hashlib.blake2b(_SALT + encoded, digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def _list_sources(sources: str | Path | Sequence[str | Path], max_texts: int | None) -> list[str | Path]:
    if max_texts is not None and max_texts < 1:
        raise ValueError(f"max_texts must be at least 1, got {max_texts}")
    listed = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if not listed:
        raise ValueError("no source of texts was given")
    return listed


def _choose(texts: list[TextT], max_texts: int | None, seed: int, shuffle: bool = True) -> list[TextT]:
    if shuffle:
        texts = [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))[:max_texts]]
    return texts[:max_texts]


def _clean(text: str | None, min_words: int, unk_token: str) -> str | None:
    """Remove WikiText's escapes; None for a heading or a text with too few words."""
    stripped = (text or "").strip()
    if _HEADING.fullmatch(stripped):
        return None
    stripped = re.sub(r" @([-,.])@ ", r"\1", stripped.replace("<unk>", unk_token))
    return stripped if len(stripped.split()) >= min_words else None


def _tables(source: str | Path) -> Iterator[Columns]:
    """Yield the text columns of each file of a source; a text file has one column."""
    if source == THIS_MACHINE:
        return iter([{"text": english_on_this_machine()}])
    path = expand_user(source)
    if path.is_dir():
        return _read_folder(path)
    if path.exists():
        return iter([_read_file(path)])
    name = str(source)
    if _HUB_ID.fullmatch(name) and not name.startswith(".") and not name.endswith((".txt", *TABLE_SUFFIXES)):
        return iter([_load_hub(name)])
    raise FileNotFoundError(
        f"{name!r} is neither an existing file or folder nor a Hub id such as Salesforce/wikitext:wikitext-2-raw-v1"
    )


def _read_file(path: Path) -> Columns:
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: name a file or a folder")  # of a pipe, reading may never end
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _text_columns(read_table(path), str(path))
    return {"text": list(_read_text_file(path))}


def _read_text_file(path: Path) -> Iterator[str]:
    require_text(path)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    lines = content.strip().split("\n")
    long = sum(len(line) > _WRAPPED_WIDTH for line in lines)
    if any(not line.strip() for line in lines) and long < len(lines) / 100:
        yield from (" ".join(block.split()) for block in re.split(r"\n\s*\n", content))
    else:
        yield from lines


def _text_columns(columns: Columns, source: str) -> Columns:
    names = [name for name in TEXT_COLUMNS if name in columns and _holds_text(columns[name], name, source)]
    if not names:
        raise _NoTextColumnError(
            f"{source}: no text column among {list(columns)}; known names: {', '.join(TEXT_COLUMNS)}"
        )
    return {name: columns[name] for name in names}


def _holds_text(values: list[Any], name: str, source: str) -> bool:
    """Whether a column named like a text column holds texts. Raises ValueError if only some of its rows do."""
    others = [row for row, value in enumerate(values, 1) if value is not None and not isinstance(value, str)]
    if others and len(others) < sum(value is not None for value in values):
        raise ValueError(f"{source}, row {others[0]}, column {name!r}: expected a text, got {values[others[0] - 1]!r}")
    return not others


def _read_folder(folder: Path) -> Iterator[Columns]:
    files = _training_files(folder)
    if not files:
        raise FileNotFoundError(
            f"{folder}: no {', '.join(_FOLDER_SUFFIXES)} file in this folder, except for evaluation"
        )
    found = False
    for file in files:
        try:
            table = _read_file(file)
        except _NoTextColumnError as error:
            logger.warning("left out: %s", error)
            continue
        found = True
        yield table
    if not found:
        raise ValueError(f"{folder}: none of the {len(files)} data files has a text column")


def _training_files(folder: Path) -> list[Path]:
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        evaluation = any(_EVALUATION.search(part) for part in parts)
        hidden = any(part.startswith(".") for part in parts)
        if path.suffix.lower() in _FOLDER_SUFFIXES and path.is_file() and not evaluation and not hidden:
            by_folder.setdefault(path.parent, []).append(path)
    chosen = []
    for files in by_folder.values():
        train = [file for file in files if _TRAIN.search(file.name)]
        chosen.extend(train or files)
    return chosen


def _load_hub(name: str) -> Columns:
    import datasets

    hub_id, _, config = name.partition(":")
    try:
        loaded = datasets.load_dataset(hub_id, config or None, split="train")
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionError(
            f"{name!r} is no existing path, and loading it from the Hub as a dataset failed: {reason}"
        ) from error
    names = [column for column in loaded.column_names if column in TEXT_COLUMNS]
    return _text_columns(loaded.select_columns(names).to_dict(), name)
