"""Reads one split of a data set of texts, images or recordings, and takes the part that may be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ...common.paths import expand_user
from ..files import Columns, name_classes, read_table
from ..folders import SPLIT_STEMS, split_files
from ..text import is_held_out

Part = Literal["all", "train", "held_out"]
PARTS = ("all", "train", "held_out")
LABEL_COLUMNS = ("label", "labels")


def read_split(source: str | Path, split: str, names: Sequence[str]) -> tuple[list[Any], list[Any] | None]:
    """The first column of `names` that the source has, and its labels (None where it has no label column).

    source: a data file, whatever it holds; a folder with a file (or shards) named as the split; or a Hub id with or
    without a configuration ("uoft-cs/cifar10"). Encoded images and recordings come as {"bytes": …, "path": …}.
    Raises FileNotFoundError, ValueError, ConnectionError.
    """
    columns = _read(source, split)
    name = next((name for name in names if name in columns), None)
    if name is None:
        raise ValueError(f"{source}: none of the columns {', '.join(names)}; it has {', '.join(columns)}")
    if not columns[name]:
        raise ValueError(f"{source}: its {split} split has no rows")
    return columns[name], next((columns[label] for label in LABEL_COLUMNS if label in columns), None)


def read_files(
    source: str | Path, split: str, names: Sequence[str], part: Part, label2id: dict[str, int] | None
) -> tuple[list[bytes], list[int] | None]:
    """The encoded files of a part of a split, in its order, and their class ids (None where it has no labels).

    source, names: as in `read_split`. label2id: the model's, for labels that are names. Raises what the functions of
    this module raise.
    """
    rows, given = read_split(source, split, names)
    files, labels = encoded_bytes(rows, source), class_ids(given, source, label2id)
    chosen = indices_of(part, files, source)
    return [files[i] for i in chosen], None if labels is None else [labels[i] for i in chosen]


def encoded_bytes(rows: Sequence[Any], source: str | Path) -> list[bytes]:
    """The encoded files of a column of images or recordings. Raises ValueError, with the row, where there is none."""
    found = []
    for number, row in enumerate(rows, 1):
        content = row.get("bytes") if isinstance(row, dict) else row
        if not isinstance(content, bytes) or not content:
            raise ValueError(f"{source}, row {number}: expected an encoded file (bytes), got {type(content).__name__}")
        found.append(content)
    return found


def class_ids(labels: Sequence[Any] | None, source: str | Path, label2id: dict[str, int] | None) -> list[int] | None:
    """Labels as class ids: numbers as they are, names by the model's `label2id`. Raises ValueError."""
    if labels is None:
        return None
    ids = [(label2id or {}).get(label) if isinstance(label, str) else label for label in labels]
    for number, (label, found) in enumerate(zip(labels, ids, strict=True), 1):
        if not isinstance(found, int) or found < 0:
            raise ValueError(f"{source}, row {number}: {label!r} is neither a class id nor one of the model's classes")
    return [int(found) for found in ids if found is not None]


def indices_of(part: Part, contents: Sequence[str | bytes], source: str | Path) -> list[int]:
    """Rows of a part, in order: "train" and "held_out" are told apart by a hash of the content, as texts are.

    Raises ValueError for another name, and for a part without rows.
    """
    if part not in PARTS:
        raise ValueError(f"a part is one of {', '.join(PARTS)}, got {part!r}")
    chosen = [i for i, content in enumerate(contents) if part == "all" or is_held_out(content) == (part == "held_out")]
    if not chosen:
        raise ValueError(f"{source}: {len(contents)} rows are too few for a part {part!r}")
    return chosen


def _read(source: str | Path, split: str) -> Columns:
    path = expand_user(source)
    if path.is_file():
        return read_table(path)
    if path.is_dir():
        return _read_folder(path, split)
    if isinstance(source, Path) or str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise FileNotFoundError(f"{source}: neither an existing file or folder nor a Hub id such as uoft-cs/cifar10")
    return _read_hub(source, split)


def _read_folder(folder: Path, split: str) -> Columns:
    if split not in SPLIT_STEMS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLIT_STEMS)}")
    files = split_files(folder, split)
    if not files:
        raise FileNotFoundError(f"{folder}: no file for the split {split!r} (such as {split}.parquet)")
    tables = [read_table(file) for file in files]
    return {name: [value for table in tables for value in table[name]] for name in tables[0]}


def _read_hub(name: str, split: str) -> Columns:
    import datasets

    hub_id, _, config = name.partition(":")
    try:
        loaded = datasets.load_dataset(hub_id, config or None, split=split)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionError(f"{name!r} is no existing path, and loading it from the Hub failed: {reason}") from error
    for column, feature in loaded.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio):  # decoded by ourselves, when they are needed
            loaded = loaded.cast_column(column, type(feature)(decode=False))
    return name_classes(loaded.to_dict(), loaded.features)
