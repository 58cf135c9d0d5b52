"""Where the commands write: results and messages to stdout, errors and bars to stderr."""

from __future__ import annotations

import shutil

from rich.console import Console

from ..common.progress import above_bars

_USUAL = 80  # columns of a terminal that does not say how many it has
_LEAST = 20
_ENDLESS = 100_000  # in a file nothing has to be wrapped


def log(line: str) -> None:
    """Print a line as it is, above a bar if there is one; the terminal wraps it."""
    with above_bars():
        output().print(line, markup=False, highlight=False, soft_wrap=True)


def log_to_stderr(line: str, style: str | None = None) -> None:
    """Print a line as it is to stderr."""
    _set_width(Console(stderr=True)).print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def output() -> Console:
    """stdout, as wide as $COLUMNS or else the terminal says, and endless where there is no terminal."""
    return _set_width(Console())


def _set_width(console: Console) -> Console:
    """Rich would take a width of 0 at its word, and write nothing."""
    columns = shutil.get_terminal_size((0, 0)).columns
    console.width = max(columns, _LEAST) if columns else _USUAL if console.file.isatty() else _ENDLESS
    return console
