"""Shows scores, a row per model, as a table on the terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from ..common.atomic import atomic_write
from ..common.errors import ConfigError
from ..common.paths import require_writable, resolve_links
from ..models.saving import writing
from ..report import Table, print_table
from ..report.formatting import MISSING
from .compare import Rows


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
    """Print the table of `score_table`; no width cuts a cell."""
    print_table(score_table(title, rows), console)


def write_scores(path: str | Path, title: str, rows: Rows) -> None:
    """Write {"title", "rows"} as JSON, atomically; through a link, if `path` is one."""
    path = resolve_links(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({"title": title, "rows": rows}, indent=2))


def require_free_for_scores(path: str | Path, *, overwrite: bool) -> None:
    """Raise ConfigError unless scores can be written to `path`: nothing is there, or older scores to be overwritten."""
    file = resolve_links(path)
    if file.is_dir():
        raise ConfigError(f"{path} is a folder; name a file, such as {Path(path) / 'scores.json'}")
    require_writable(path)  # also that a pipe or a device is none, of which reading may never end
    if not file.exists():
        return
    if not _holds_scores(file):
        raise ConfigError(f"{path} exists and holds no scores of this command: choose another file")
    if not overwrite:
        raise ConfigError(f"{path} exists; add --overwrite to replace it")


def _holds_scores(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == {"title", "rows"}
