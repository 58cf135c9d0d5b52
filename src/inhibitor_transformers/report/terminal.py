"""Tables in the terminal, whole in any width, and the report's summary made of them."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .results import DistillationReport
from .tables import Table, layer_table, stage_table, throughput_table, throughput_verdict

_GAP = 2  # blanks between two columns
_LEAST_NAME = 20  # characters to which the rows' names may be folded before columns go into a part of their own


def print_summary(report: DistillationReport, console: Console) -> None:
    """Quality per stage and per layer, and speed; tables without rows are left out."""
    console.print(Text(report.title, style="bold"))
    for table in (stage_table(report), layer_table(report), throughput_table(report)):
        if table.rows:
            print_table(table, console)
    if verdict := throughput_verdict(report.throughput):
        console.print(Text(verdict))


def print_table(table: Table, console: Console) -> None:
    """Print a table in the console's width and lose no character of a cell.

    Where it is too wide, long names of rows are folded; if that is not enough, the columns come in parts, one below
    the other, each with the rows' names. A cell too wide even so is folded.
    """
    widths = [_width(table, column) for column in range(len(table.header))]
    least = min(widths[0], _LEAST_NAME, console.width // 2)
    widths[1:] = [min(width, max(console.width - least - _GAP, 1)) for width in widths[1:]]
    parts = _parts(widths[1:], console.width - least)
    room = min(console.width - sum(widths[column] + _GAP for column in part) for part in parts)
    widths[0] = min(widths[0], room)
    console.print(Text(table.title, style="bold"))
    for part in parts:
        console.print(_draw(table, part, widths))
        console.print()


def _width(table: Table, column: int) -> int:
    """As narrow as the cells and the longest word of the header, for eight columns in a terminal of 80."""
    return max(map(cell_len, [*table.header[column].split(), *(row[column] for row in table.rows), ""]))


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """The numbers of the columns after the first, in order, as many in each part as fit into `width`."""
    parts: list[list[int]] = [[]]
    free = width
    for column, needed in enumerate(widths, 1):
        if parts[-1] and free < needed + _GAP:
            parts.append([])
            free = width
        parts[-1].append(column)
        free -= needed + _GAP
    return parts


def _draw(table: Table, columns: Sequence[int], widths: Sequence[int]) -> RichTable:
    # Text, not str: rich would take brackets in a string for its markup.
    drawn = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    drawn.add_column(Text(table.header[0]), width=widths[0], overflow="fold")
    for column in columns:
        header = Text("\n".join(wrap(table.header[column], widths[column])))
        drawn.add_column(header, justify="right", width=widths[column], overflow="fold")
    for row in table.rows:
        drawn.add_row(Text(row[0]), *(Text(row[column]) for column in columns))
    return drawn
