"""The student's inhibition and the teacher's attention between tokens, each one inline SVG.

Between all tokens of a sentence in one head, or from the tokens before one query in every layer. In all of them full
color means that much passes from a key to a query, so that the two models look alike where they do alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .formatting import significant
from .model_results import LayerMaps
from .results import AttentionMaps
from .svg import GRID, MUTED, STUDENT, SURFACE, TEACHER, drawing_style, hide_frame, inline_svg, one_plot, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS = 270  # points that the square of cells measures
_BAR = 110  # points that the color scale is long
_MOST_LABELS = 32
_WIDE = 700  # points that the cells of all layers are wide at most
_CELL = 22  # points that one of them is wide at most
_ROW = 15  # points that a layer is high


class _Layout(NamedTuple):
    """Labels of rows (downward) and columns, and the points that all cells together are wide and high."""

    rows: Sequence[str]
    columns: Sequence[str]
    width: float
    height: float
    row_name: str = "query"
    column_name: str = "key"


def inhibition_map(maps: AttentionMaps) -> str:
    """The student's Z: full color where Z = 0. Raises ValueError if matplotlib is not installed."""
    scale, written = scale_end(maps.inhibition)
    strengths = [[0.0 if math.isnan(z) else 1 - min(z / scale, 1.0) for z in row] for row in maps.inhibition]
    return _token_map("inhibition Z", _square(maps.tokens), maps.inhibition, strengths, STUDENT, ("0", written))


def attention_map(maps: AttentionMaps) -> str:
    """The teacher's weights: full color where large. Raises ValueError if matplotlib is not installed."""
    scale, written = scale_end(maps.attention)
    strengths = _strengths(maps.attention, scale)
    return _token_map("attention weight", _square(maps.tokens), maps.attention, strengths, TEACHER, (written, "0"))


def passing_layers(maps: LayerMaps, keys: Sequence[str], number: int) -> str:
    """What passes to one query from each key in each layer of the student; `number` tells maps of a page apart.

    Raises ValueError if matplotlib is not installed.
    """
    return _layer_map("fraction that passes", maps, keys, maps.passing, STUDENT, number)


def attention_layers(maps: LayerMaps, keys: Sequence[str], number: int) -> str:
    """The teacher's attention of one query to each key in each layer, as `passing_layers`."""
    return _layer_map("attention probability", maps, keys, maps.attention, TEACHER, number)


def _layer_map(
    name: str, maps: LayerMaps, keys: Sequence[str], values: Sequence[Sequence[float]], color: str, number: int
) -> str:
    scale, written = scale_end(values)
    layout = _Layout(
        rows=maps.layers,
        columns=keys,
        width=min(_CELL * max(len(keys), 6), _WIDE),
        height=_ROW * len(maps.layers),
        row_name="",
        column_name="",
    )
    return _token_map(name, layout, values, _strengths(values, scale), color, (written, "0"), f"-{number}")


def _square(tokens: Sequence[str]) -> _Layout:
    return _Layout(tokens, tokens, _CELLS, _CELLS)


def _strengths(values: Sequence[Sequence[float]], scale: float) -> list[list[float]]:
    return [[min(w / scale, 1.0) if math.isfinite(w) else 0.0 for w in row] for row in values]


def scale_end(values: Sequence[Sequence[float]]) -> tuple[float, str]:
    """Where the color scale ends, and what is written there.

    The 98th percentile, so that a few large values do not wash out the rest; it is rounded as it is written, so that
    "≥ 1.00" is not said of weights whose largest reads 1.00.
    """
    found = sorted(v for row in values for v in row if not math.isnan(v))
    finite = [v for v in found if math.isfinite(v)]
    end = float(f"{finite[int(0.98 * (len(finite) - 1))] if finite else 0.0:.2e}") or 1.0
    written = significant(end)
    beyond = bool(found) and found[-1] > end and significant(found[-1]) != written
    return end, f"≥ {written}" if beyond else written


def _token_map(
    name: str,
    layout: _Layout,
    values: Sequence[Sequence[float]],
    strengths: Sequence[Sequence[float]],
    color: str,
    scale_ends: tuple[str, str],
    suffix: str = "",
) -> str:
    """Cells as strong in color as `strengths` (0 to 1) says; `suffix` makes the ids of one of several maps its own."""
    rows, columns = ([printable(token) for token in labels] for labels in (layout.rows, layout.columns))
    left, bottom = (
        (26 if axis else 8) + 5.6 * max(map(len, labels), default=0)
        for labels, axis in ((rows, layout.row_name), (columns, layout.column_name))
    )
    top, right = 42.0, 6.0
    with drawing_style():
        figure, axes = one_plot(
            left + layout.width + right, top + layout.height + bottom, left=left, right=right, top=top, bottom=bottom
        )
        gaps = 0.7 if len(columns) <= 40 else 0.0
        axes.pcolormesh(_shades(color, strengths), gid="cells", clip_on=False, edgecolor=SURFACE, linewidth=gaps)
        axes.invert_yaxis()
        _ticks(axes, layout._replace(rows=rows, columns=columns))
        _color_scale(figure, color, name, scale_ends, left=left, width=layout.width)
        return inline_svg(
            figure,
            name.replace(" ", "-") + suffix,
            f"Map of {name}, {'queries' if layout.row_name else 'layers'} in rows, keys in columns",
            {"cells": _tooltips(name, rows, columns, values)},
        )


def _tooltips(name: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> list[str]:
    return [
        f"{row} ← {column}: {name} {significant(value)}"
        for row, numbers in zip(rows, values, strict=True)
        for column, value in zip(columns, numbers, strict=True)
    ]


def _shades(color: str, strengths: Sequence[Sequence[float]]) -> list[list[tuple[float, ...]]]:
    """The color at each strength, as opacity: so it fades into a light page and into a dark one."""
    from matplotlib.colors import to_rgba

    return [[to_rgba(color, strength) for strength in row] for row in strengths]


def _ticks(axes: Axes, layout: _Layout) -> None:
    places, size = _places(len(layout.columns), layout.width)
    axes.set_xticks([i + 0.5 for i in places], [layout.columns[i] for i in places], rotation=90, fontsize=size)
    places, size = _places(len(layout.rows), layout.height)
    axes.set_yticks([i + 0.5 for i in places], [layout.rows[i] for i in places], fontsize=size)
    axes.tick_params(length=0)
    axes.set(xlabel=layout.column_name, ylabel=layout.row_name)
    hide_frame(axes)


def _places(count: int, length: float) -> tuple[range, float]:
    """Which of the labels along `length` points are written, and how large."""
    every = math.ceil(count / max(_MOST_LABELS, length // 9)) or 1
    places = range(0, count, every)
    return places, min(9.5, length / max(len(places), 1) * 0.8)


def _color_scale(figure: Figure, color: str, name: str, ends: tuple[str, str], *, left: float, width: float) -> None:
    """A bar from full color to none above the cells, with what its two ends stand for."""
    whole, height = figure.get_size_inches() * 72
    bar = min(_BAR, width / 2)
    axes = figure.add_axes(((left + width - bar) / whole, 1 - 22 / height, bar / whole, 8 / height))
    steps = 44
    axes.pcolormesh(_shades(color, [[1 - i / (steps - 1) for i in range(steps)]]))
    axes.set(xticks=[0, steps], yticks=[], xticklabels=ends)
    axes.tick_params(length=0, pad=3)
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=GRID, linewidth=0.6)
    axes.set_title(name, loc="left", fontsize=10, color=MUTED, pad=4)
