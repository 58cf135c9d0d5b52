"""The report's tables in the terminal."""

from __future__ import annotations

from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .results import DistillationReport
from .tables import Table, layer_table, stage_table, throughput_table, throughput_verdict


def print_summary(report: DistillationReport, console: Console) -> None:
    """Quality per stage and per layer, and speed; tables without rows are left out."""
    console.print(Text(report.title, style="bold"))
    for table in (stage_table(report), layer_table(report), throughput_table(report)):
        if table.rows:
            # Cropping would lose the last columns where the terminal is too narrow.
            console.print(rich_table(table), crop=False, overflow="ignore")
    if verdict := throughput_verdict(report.throughput):
        console.print(Text(verdict))


def rich_table(table: Table) -> RichTable:
    """A table of the report as rich draws it."""
    # Text, not str: rich would take brackets in a string for its markup.
    drawn = RichTable(
        title=Text(table.title), title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column, name in enumerate(table.header):
        # As narrow as the cells and the header's longest word, for eight columns in a terminal of 80.
        width = max(map(len, [*name.split(), *(row[column] for row in table.rows)]))
        header = Text("\n".join(wrap(name, width)))
        drawn.add_column(header, justify="right" if column else "left", min_width=width)
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn
