"""Rows of scores, one per model: as a table, on the terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ..models.saving import writing
from .compare import Rows
from .report import Table
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
    """The table of `score_table`; long names are folded."""
    scores = score_table(title, rows)
    table = RichTable(title=Text(title))
    table.add_column(scores.header[0], overflow="fold", min_width=28)
    for name in scores.header[1:]:
        table.add_column(Text(name), justify="right")
    for row in scores.rows:
        table.add_row(*map(Text, row))
    console.print(table)


def write_scores(path: str | Path, title: str, rows: Rows) -> None:
    """The same as JSON, {"title", "rows"}; the file appears whole or not at all."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"title": title, "rows": rows}, indent=2))
