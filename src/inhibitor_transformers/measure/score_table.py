"""Rows of scores, one per model, on the terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .compare import Rows
from .whole_file import write_whole


def print_scores(title: str, rows: Rows, console: Console) -> None:
    """A table with a column per split and metric; a value that a row does not have is a dash."""
    columns = list(dict.fromkeys((split, metric) for row in rows.values() for split in row for metric in row[split]))
    table = Table(title=Text(title))
    table.add_column("model", overflow="fold", min_width=28)
    for split, metric in columns:
        table.add_column(Text(f"{split}\n{metric}"), justify="right")
    for name, row in rows.items():
        values = (row.get(split, {}).get(metric) for split, metric in columns)
        table.add_row(Text(name), *("–" if value is None else f"{value:.4g}" for value in values))
    console.print(table)


def write_scores(path: Path, title: str, rows: Rows) -> None:
    """The same as JSON, {"title", "rows"}; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"title": title, "rows": rows}, indent=2))
