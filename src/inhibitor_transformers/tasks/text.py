"""Plain texts from files, folders and the Hub, for the stages of distillation that need no labels."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import TABLE_SUFFIXES, Columns, read_table
from .prose import english_on_this_machine

__all__ = ["english_on_this_machine", "load_texts", "split_held_out"]

logger = logging.getLogger(__name__)

HELD_OUT = 0.1  # share of any source of texts that no training sees
_SALT = "0\n"  # never to be changed: it decides which texts those are

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

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_FOLDER_SUFFIXES = (".txt", ".parquet", ".csv", ".tsv", ".jsonl")
_EVALUATION = re.compile(r"(?<![a-z])(validation|valid|val|dev|test|eval|evaluation)(?![a-z])", re.IGNORECASE)
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
_HEADING = re.compile(r"\s*(= )+.*( =)+\s*")
_WRAPPED_WIDTH = 120


class _NoTextColumnError(ValueError):
    """A table without texts: an error on its own, left out of a folder that has others."""


def load_texts(
    sources: str | Path | Sequence[str | Path],
    *,
    max_texts: int | None = None,
    min_words: int = 5,
    seed: int = 0,
    shuffle: bool = True,
    unk_token: str = "[UNK]",
) -> list[str]:
    """Distinct texts of at least `min_words` words, whole however long, from all sources together.

    A source is a text file; a Parquet, CSV, TSV, JSON or JSON Lines file, of which all columns in
    `TEXT_COLUMNS` are taken; a folder, searched recursively for .txt, .parquet, .csv, .tsv and
    .jsonl files, without files and folders named as validation or test and with the train files
    alone where a folder has some; or a Hub id with or without a configuration
    ("Salesforce/wikitext:wikitext-2-raw-v1"), of which the train split is taken. An existing path
    wins over a Hub id.

    In a text file each line is a text, unless the file is hard-wrapped (blank lines between blocks,
    hardly a line beyond 120 characters): then each block is one. WikiText's "<unk>" becomes
    `unk_token`, its escaped " @-@ " becomes "-", its headings are dropped. Shuffled with `seed`
    before `max_texts` are taken. Raises ValueError, FileNotFoundError, ConnectionError.
    """
    if max_texts is not None and max_texts < 1:
        raise ValueError(f"max_texts must be at least 1, got {max_texts}")
    listed = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if not listed:
        raise ValueError("no source of texts was given")
    texts: dict[str, None] = {}
    for source in listed:
        found = dict.fromkeys(_clean(_of_source(source), min_words, unk_token))
        if not found:
            raise ValueError(f"{source}: no text of at least {min_words} words")
        texts |= found
    return _ordered(list(texts), max_texts, seed, shuffle)


def split_held_out(texts: Sequence[str], fraction: float = HELD_OUT) -> tuple[list[str], list[str]]:
    """(train, held out) of about `fraction` of the texts, decided by a hash of each text.

    A text's side depends on nothing but itself: no run, whatever its seed, trains on what another one holds out.
    Raises ValueError for a fraction outside (0, 1) and when one side would be empty.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    sides: tuple[list[str], list[str]] = ([], [])
    for text in texts:
        digest = hashlib.blake2b(f"{_SALT}{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        sides[int.from_bytes(digest, "big") < fraction * 2**64].append(text)
    if not all(sides):
        raise ValueError(f"{len(texts)} text(s) are too few to hold out a fraction of {fraction:g}")
    return sides


def _ordered(texts: list[str], max_texts: int | None, seed: int, shuffle: bool) -> list[str]:
    if shuffle:
        texts = [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))[:max_texts]]
    return texts[:max_texts]


def _clean(texts: Iterable[str], min_words: int, unk_token: str) -> Iterator[str]:
    for text in texts:
        stripped = text.strip()
        if not stripped or _HEADING.fullmatch(stripped):
            continue
        stripped = re.sub(r" @([-,.])@ ", r"\1", stripped.replace("<unk>", unk_token))
        if len(stripped.split()) >= min_words:
            yield stripped


def _of_source(source: str | Path) -> Iterator[str]:
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if path.exists():
        return _of_file(path)
    name = str(source)
    if _HUB_ID.fullmatch(name) and not name.startswith(".") and not name.endswith((".txt", *TABLE_SUFFIXES)):
        return _of_hub(name)
    raise FileNotFoundError(
        f"{name!r} is neither an existing file or folder nor a Hub id such as Salesforce/wikitext:wikitext-2-raw-v1"
    )


def _of_file(path: Path) -> Iterator[str]:
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _of_columns(read_table(path), str(path))
    return _of_text_file(path)


def _of_text_file(path: Path) -> Iterator[str]:
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


def _of_columns(columns: Columns, source: str) -> Iterator[str]:
    names = [name for name in TEXT_COLUMNS if name in columns and _holds_text(columns[name])]
    if not names:
        raise _NoTextColumnError(
            f"{source}: no text column among {list(columns)}; known names: {', '.join(TEXT_COLUMNS)}"
        )
    return (text for name in names for text in columns[name] if text is not None)


def _holds_text(values: list[Any]) -> bool:
    return all(value is None or isinstance(value, str) for value in values)


def _of_folder(folder: Path) -> Iterator[str]:
    files = _training_files(folder)
    if not files:
        raise FileNotFoundError(
            f"{folder}: no {', '.join(_FOLDER_SUFFIXES)} file in this folder, except for evaluation"
        )
    found = False
    for file in files:
        try:
            texts = _of_file(file)
        except _NoTextColumnError as error:
            logger.warning("left out: %s", error)
            continue
        found = True
        yield from texts
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


def _of_hub(name: str) -> Iterator[str]:
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
    return _of_columns(loaded.select_columns(names).to_dict(), name)
