"""Infers a task from a user's own columns: which hold text, which the label, and its classes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from .examples import is_missing
from .files import Columns
from .registry import Task

CUSTOM = "custom"
_TEXT_NAMES = (("sentence1", "sentence2"), ("text1", "text2"), ("text",), ("sentence",))
_LABEL_NAMES = ("label", "labels")


def infer_task(
    columns: Columns,
    source: str,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
) -> Task:
    """Infer the task "custom" from training columns; its evaluation splits are left empty.

    Labels that are whole numbers are classes in numerical order, other labels are class names in
    sorted order, decimal numbers make it a regression. Raises ValueError where columns are missing
    or could be meant in more than one way, and where labels make no sense as either.
    """
    texts = tuple(text_columns) if text_columns else _find_texts(columns, source)
    label = label_column or _find_label(columns, source)
    for name in (*texts, label):
        if name not in columns:
            raise ValueError(f"{source}: no column {name!r}; the columns are {list(columns)}")
    if label in texts or len(set(texts)) < len(texts):
        raise ValueError(f"{source}: text and label columns must differ, got {[*texts, label]}")
    names = _label_names(columns[label], f"{source}, column {label!r}")
    return Task(
        name=CUSTOM,
        text_columns=texts,
        label_column=label,
        label_names=names,
        metrics=("accuracy", "macro_f1") if names else ("pearson", "spearman"),
        hub_id=None,
        hub_config=None,
        train_split="train",
        evaluation_splits=(),
    )


def notes_on_labels(task: Task, labels: list[Any]) -> list[str]:
    """Sentences that say how labels were interpreted, where another interpretation is possible."""
    column, written = f"{task.name}: {task.label_column}", [str(label).strip() for label in labels]
    whole = [name for name in written if _parse({name}, int) is not None]
    if task.is_regression:
        if not all(float(name).is_integer() for name in written):
            return []
        return [f"{column} holds whole scores; if they are classes, write them without a decimal point (1, not 1.0)"]
    folded = [name.lower() for name in task.label_names]
    if alike := [name for name in task.label_names if folded.count(name.lower()) > 1]:
        return [f"{column} has labels that differ in case alone ({', '.join(alike)}); each is a class"]
    if not whole or set(written) == {"0", "1"}:
        return []
    if len(whole) < len(written):
        row, name = next((row, name) for row, name in enumerate(written, 1) if _parse({name}, int) is None)
        return [f"{column} mixes numbers and names, such as {name!r} in row {row}; each is a class"]
    return [
        f"{column} holds whole numbers, which are taken for classes, not for scores; for a regression write them with "
        f"a decimal point ({whole[0]}.0)"
    ]


def _find_texts(columns: Columns, source: str) -> tuple[str, ...]:
    found = [names for names in _TEXT_NAMES if all(name in columns for name in names)]
    if len(found) == 1:
        return found[0]
    known = " or ".join("+".join(names) for names in (found or _TEXT_NAMES))
    problem = "more than one text column" if found else "no text column"
    raise ValueError(f"{source}: {problem} ({known}) among {list(columns)}; name the text column(s)")


def _find_label(columns: Columns, source: str) -> str:
    found = [name for name in _LABEL_NAMES if name in columns]
    if len(found) == 1:
        return found[0]
    problem = "more than one label column" if found else "no label column"
    raise ValueError(f"{source}: {problem} ({' or '.join(_LABEL_NAMES)}) among {list(columns)}; name the label column")


def _label_names(labels: list[Any], source: str) -> tuple[str, ...]:
    for row, label in enumerate(labels, 1):
        if is_missing(label):
            raise ValueError(f"{source}, row {row}: the label is missing")
        if not isinstance(label, str | int | float | Decimal):
            raise ValueError(f"{source}, row {row}: a label is a name or a number, got {label!r}")
    if not labels:
        raise ValueError(f"{source}: no rows")
    names = {str(label).strip() for label in labels}
    whole = _parse(names, int)
    if whole is not None and min(whole.values()) < 0:
        raise ValueError(f"{source}: negative labels mark hidden ones; give classes names, or numbers from 0")
    if whole is not None and len(set(whole.values())) < len(names):
        alike = sorted(name for name in names if list(whole.values()).count(whole[name]) > 1)
        raise ValueError(f"{source}: {' and '.join(alike[:2])} are one number, written in two ways; write it in one")
    if whole is None and _parse(names, float) is not None:
        return ()
    if len(names) < 2:
        raise ValueError(f"{source}: every row has the label {names.pop()!r}; at least two classes are needed")
    if len(names) > 2 and len(names) > len(labels) / 2:
        raise ValueError(f"{source}: {len(names)} different labels in {len(labels)} rows; is this the label column?")
    return tuple(sorted(names) if whole is None else sorted(names, key=lambda name: whole[name]))


def _parse(names: set[str], kind: type[int] | type[float]) -> dict[str, float] | None:
    try:
        return {name: kind(name) for name in names}
    except ValueError:
        return None
