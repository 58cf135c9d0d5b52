"""Turns the columns of a file into checked examples of a task: texts present, labels in range."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.progress import track
from .files import Columns
from .registry import Task

if TYPE_CHECKING:
    from datasets import Dataset

# Columns of GLUE's TSV release that are named otherwise on the Hub.
_RELEASE_NAMES = {
    "mrpc": {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
    "stsb": {"score": "label"},
    "qqp": {"is_duplicate": "label"},
    "mnli": {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
}
_LARGEST = 3.4028234663852886e38  # of float32: beyond it is infinity
_COLA_FIELDS = 4  # source, label, the author's mark, sentence: CoLA's TSV has no header


def hub_columns(columns: Columns, task: Task) -> Columns:
    """The columns under the names of the Hub, for files of GLUE's TSV release."""
    if task.name == "cola" and "sentence" not in columns and len(columns) == _COLA_FIELDS:
        _, label, _, sentence = columns
        return {"label": [label, *columns[label]], "sentence": [sentence, *columns[sentence]]}
    renamed = dict(columns)
    for released, name in _RELEASE_NAMES.get(task.name, {}).items():
        if released in renamed and name not in renamed:
            renamed[name] = renamed.pop(released)
    return renamed


def to_dataset(columns: Columns, task: Task, source: str, notes: list[str]) -> Dataset:
    """The task's columns as a dataset held in memory: texts as strings, labels int64 or float32.

    Class names become ids by their place in `task.label_names`. `source` names the file in errors;
    rows are counted from 1, a header not included. Official data keeps the few pairs that have one
    blank text, and says so in `notes`. Raises ValueError for a missing column, no rows, missing or
    blank texts, missing or hidden labels and labels out of range.
    """
    from datasets import Dataset, Features, Value

    for name in (*task.text_columns, task.label_column):
        if name not in columns:
            raise ValueError(f"{source}: no column {name!r}; the columns are {list(columns)}")
    labels = columns[task.label_column]
    if not labels:
        raise ValueError(f"{source}: no rows")
    _check_texts(columns, task, source, notes)
    convert = _score if task.is_regression else _class_id
    converted = []
    for row, label in enumerate(track(labels, f"checking {Path(source).name}", unit="rows"), 1):
        try:
            converted.append(convert(label, task))
        except ValueError as error:
            raise ValueError(f"{source}, row {row}, column {task.label_column!r}: {error}") from None
    kinds = dict.fromkeys(task.text_columns, Value("string"))
    kinds[task.label_column] = Value("float32" if task.is_regression else "int64")
    kept = {name: columns[name] for name in task.text_columns}
    return Dataset.from_dict({**kept, task.label_column: converted}, features=Features(kinds))


def is_missing(value: Any) -> bool:
    """Whether a value is missing: null, NaN or a blank string."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def _check_texts(columns: Columns, task: Task, source: str, notes: list[str]) -> None:
    half_blank = []
    for row, texts in enumerate(zip(*(columns[name] for name in task.text_columns), strict=True), 1):
        for name, text in zip(task.text_columns, texts, strict=True):
            if not isinstance(text, str):
                got = "the text is missing" if is_missing(text) else f"expected a text, got {text!r}"
                raise ValueError(f"{source}, row {row}, column {name!r}: {got}")
        blank = [name for name, text in zip(task.text_columns, texts, strict=True) if not text.strip()]
        if not blank:
            continue
        if task.hub_id is None or len(blank) == len(texts):
            raise ValueError(f"{source}, row {row}, column {blank[0]!r}: the text is empty")
        half_blank.append(row)
    if half_blank:
        notes.append(
            f"{source}: {len(half_blank)} pair(s) with one empty text are kept, the first in row {half_blank[0]}"
        )


def _class_id(label: Any, task: Task) -> int:
    if is_missing(label):
        raise ValueError("the label is missing")
    name = str(label).strip()
    if name in task.label_names:
        return task.label_names.index(name)
    number = _number(label)
    if number is not None and number < 0:
        raise ValueError(_hidden(label))
    # Ids are the Hub's form of labels; one's own labels all have names, also where these are digits.
    if task.hub_id is None or number is None or number not in range(task.num_labels):
        ids = f" (ids 0 to {task.num_labels - 1})" if task.hub_id else ""
        raise ValueError(f"label {label!r} is none of {', '.join(task.label_names)}{ids}")
    return int(number)


def _score(label: Any, task: Task) -> float:
    if is_missing(label):
        raise ValueError("the label is missing")
    number = _number(label)
    if number is None or not abs(number) <= _LARGEST:
        raise ValueError(f"expected a number that float32 can hold, got {label!r}")
    if task.label_range is not None:
        low, high = task.label_range
        if number < 0 <= low:
            raise ValueError(_hidden(label))
        if not low <= number <= high:
            raise ValueError(f"score {label!r} is outside [{low:g}, {high:g}]")
    return number


def _hidden(label: Any) -> str:
    return (
        f"label {label!r} is negative, which marks a hidden label (the official test splits of GLUE have no others); "
        "use a split with labels"
    )


def _number(label: Any) -> float | None:
    try:
        return float(label)
    except (TypeError, ValueError):
        return None
