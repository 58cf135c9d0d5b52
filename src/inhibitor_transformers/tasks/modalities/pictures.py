"""A few pictures by name: image files, folders of them, and data sets with a column of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...common.paths import expand_user
from ..files import TABLE_SUFFIXES
from ..folders import split_files
from .images import IMAGE_COLUMNS
from .source import encoded_bytes, read_split

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_SPLITS = ("test", "validation", "train")


class NamedPicture(NamedTuple):
    """An encoded image file, and what to call it."""

    name: str
    content: bytes


def read_pictures(sources: Sequence[str | Path], count: int) -> list[NamedPicture]:
    """The first `count` pictures of all sources, in their order.

    sources: image files; folders, of which the image files are taken in the order of their names, or else the first
    rows of their test, validation or train split; data files with a column of images.
    Raises FileNotFoundError for a source that is not there or has no picture, ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"the number of pictures must be at least 1, got {count}")
    found: list[NamedPicture] = []
    for source in sources:
        found += _read(expand_user(source), count - len(found))
    return found


def _read(source: Path, count: int) -> list[NamedPicture]:
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder of pictures")
    if source.is_file() and source.suffix.lower() in TABLE_SUFFIXES:
        return _rows(source, "train", count)
    if source.is_file():
        return [NamedPicture(source.name, source.read_bytes())][:count]
    files = sorted(file for file in source.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())
    if files:
        return [NamedPicture(file.name, file.read_bytes()) for file in files[:count]]
    split = next((split for split in _SPLITS if split_files(source, split)), None)
    if split is None:
        raise FileNotFoundError(f"{source}: no picture ({', '.join(PICTURE_SUFFIXES)}) and no data set in this folder")
    return _rows(source, split, count)


def _rows(source: Path, split: str, count: int) -> list[NamedPicture]:
    rows, _ = read_split(source, split, IMAGE_COLUMNS)
    names = (f"{source.stem if source.is_file() else split}, row {i}" for i in range(1, count + 1))
    return [NamedPicture(*named) for named in zip(names, encoded_bytes(rows[:count], source), strict=False)]
