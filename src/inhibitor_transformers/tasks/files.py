"""Reads one data file (Parquet, CSV, TSV, JSON, JSON Lines) into columns, without guessing types.

Everything is read into memory: no cache is written, neither beside the data nor elsewhere.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.progress import track

if TYPE_CHECKING:
    from datasets import Features

Columns = dict[str, list[Any]]

# Longer than any text; the csv module's default of 128 KiB is not.
_CSV_FIELD_LIMIT = 2**31 - 1
_SHOWN_LINES = 5
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # a whole pair is one character in Python
_BEGINNING = 4096  # bytes


def read_table(path: Path) -> Columns:
    """Read a data file into columns of equal length, by name; CSV and TSV cells stay strings.

    TSV is read as GLUE writes it: tabs separate, quotes are ordinary characters, nothing is
    escaped. CSV follows RFC 4180. In Parquet files that `datasets` wrote, class ids come back as
    class names. Raises FileNotFoundError for a missing file, ValueError for one that cannot be read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: cannot read {path.suffix or 'a file without a suffix'}; use {_suffix_list()}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if reader is not _read_parquet:
        require_text(path)
    try:
        return reader(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def require_text(path: Path) -> None:
    """Raise ValueError for a file whose first bytes show that it is no UTF-8 text: UTF-16, or binary."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    if b"\0" in beginning or beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: not UTF-8 text (it holds NUL bytes, as UTF-16 and files that are no text do)")


def name_classes(columns: Columns, features: Features) -> Columns:
    """Replace ids of `datasets.ClassLabel` columns by class names; hidden labels (−1) stay."""
    from datasets import ClassLabel

    named = dict(columns)
    for name, feature in features.items():
        if name in named and isinstance(feature, ClassLabel):
            names = feature.names
            named[name] = [names[i] if i is not None and 0 <= i < len(names) else i for i in named[name]]
    return named


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    try:
        _require_distinct(path, pq.read_schema(path).names)
        # partitioning=None: a folder called "split=train" must not become a column.
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:  # arrow says OSError of encrypted and damaged pages
        raise ValueError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    columns: Columns = table.to_pydict()
    if b"huggingface" in (table.schema.metadata or {}):
        return name_classes(columns, Features.from_arrow_schema(table.schema))
    return columns


def _read_csv(path: Path) -> Columns:
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            return _rows_to_columns(path, ((reader.line_num, row) for row in reader if row))
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None


def _read_tsv(path: Path) -> Columns:
    # newline="\n": a lone carriage return within a text is not the end of a row.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, 1))
        return _rows_to_columns(path, ((number, line.split("\t")) for number, line in lines if line))


def _rows_to_columns(path: Path, rows: Iterable[tuple[int, list[str]]]) -> Columns:
    numbered = track(rows, f"reading {path.name}", unit="rows")
    _, header = next(numbered, (0, []))
    if not header:
        raise ValueError(f"{path}: the file is empty; expected a header and rows")
    header = [name.strip() for name in header]
    _require_distinct(path, header)
    kept: list[list[str]] = []
    ragged: list[int] = []
    for number, row in numbered:
        (kept.append(row) if len(row) == len(header) else ragged.append(number))
    if ragged:
        shown = ", ".join(map(str, ragged[:_SHOWN_LINES])) + (", …" if len(ragged) > _SHOWN_LINES else "")
        raise ValueError(
            f"{path}: {len(ragged)} line(s) do not have the header's {len(header)} fields: line {shown}; "
            "mend or remove them"
        )
    return {name: [row[i] for row in kept] for i, name in enumerate(header)}


def _require_distinct(path: Path, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: two columns have the same name in the header {names}")


def _read_json_lines(path: Path) -> Columns:
    with path.open(encoding="utf-8-sig") as file:
        return _records_to_columns(path, (_parse_line(path, n, line) for n, line in enumerate(file, 1) if line.strip()))


def _parse_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_distinct_names)
    except _NameTwiceError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {number}: not valid JSON ({_json_reason(error)})") from None


def _read_json(path: Path) -> Columns:
    text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        return _read_json_lines(path)
    try:
        records = json.loads(text, object_pairs_hook=_distinct_names)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except _NameTwiceError as error:
        raise ValueError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({_json_reason(error)})") from None
    return _records_to_columns(path, records)


class _NameTwiceError(ValueError):
    """An object has a field twice; json would silently keep the last."""


def _distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NameTwiceError(f"an object has the field {twice!r} twice")
    return fields


def _json_reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _records_to_columns(path: Path, records: Iterable[Any]) -> Columns:
    rows = list(track(records, f"reading {path.name}", unit="rows"))
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: expected an object with named fields, got {type(row).__name__}")
        for name, value in row.items():
            if isinstance(value, str):  # other formats hold UTF-8, which has no halves of characters
                require_whole_characters(value, f"{path}, row {number}, column {name!r}")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
}
TABLE_SUFFIXES = tuple(_READERS)


def _suffix_list() -> str:
    return ", ".join(TABLE_SUFFIXES)


def require_whole_characters(text: str, where: str) -> None:
    """Raise ValueError, naming `where` the text stands, if it holds half a character (a lone surrogate).

    JSON and Python can hold one; UTF-8, tokenizers and Arrow cannot.
    """
    if found := _LONE_SURROGATE.search(text):
        raise ValueError(
            f"{where}: half a character, {found[0]!a}, at position {found.start()} of the text (a lone surrogate, "
            "as texts have that were cut within an emoji); mend or remove it"
        )
