"""`inhibit env`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def env() -> None:
    """Show what is available on this machine, and why the rest is not."""
    from ..measure.environment import environment

    table = Table(show_header=False, box=None, pad_edge=False)
    last = None
    for section, name, value in environment():
        table.add_row(section if section != last else "", name, str(value))
        last = section
    Console().print(table, markup=False, highlight=False)
