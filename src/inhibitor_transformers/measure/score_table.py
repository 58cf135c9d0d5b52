"""Rows of scores, one per model: as a table, on the terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from .compare import Rows
from .report import Table, print_table
from .report.formatting import MISSING
from .whole_file import write_whole


def score_table(title: str, rows: Rows) -> Table:
    """A row per model and a column per split and metric; a value that a row does not have is a dash."""
    columns = list(dict.fromkeys((split, metric) for row in rows.values() for split in row for metric in row[split]))
    cells = {name: [row.get(split, {}).get(metric) for split, metric in columns] for name, row in rows.items()}
    return Table(
        title,
        ["model", *(f"{split}\n{metric}" for split, metric in columns)],
        [[name, *(MISSING if value is None else f"{value:.4g}" for value in row)] for name, row in cells.items()],
    )


def print_scores(title: str, rows: Rows, console: Console) -> None:
    """The table of `score_table`, whole in any width."""
    print_table(score_table(title, rows), console)


def write_scores(path: Path, title: str, rows: Rows) -> None:
    """The same as JSON, {"title", "rows"}; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"title": title, "rows": rows}, indent=2))
