"""The student's inhibition and the teacher's attention between the tokens of a sentence, each one inline SVG.

In both, full color means that much passes from a key to a query, so that the two look alike where the
models do alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .formatting import significant
from .results import AttentionMaps
from .svg import GRID, MUTED, STUDENT, SURFACE, TEACHER, drawing_style, hide_frame, inline_svg, one_plot, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS = 270  # points that the square of cells measures
_BAR = 110  # points that the color scale is long
_MOST_LABELS = 32


def inhibition_map(maps: AttentionMaps) -> str:
    """The student's Z: full color where Z = 0. Raises ValueError if matplotlib is not installed."""
    scale, written = _scale_end(maps.inhibition)
    strengths = [[0.0 if math.isnan(z) else 1 - min(z / scale, 1.0) for z in row] for row in maps.inhibition]
    return _token_map("inhibition Z", maps.tokens, maps.inhibition, strengths, STUDENT, ("0", written))


def attention_map(maps: AttentionMaps) -> str:
    """The teacher's weights: full color where large. Raises ValueError if matplotlib is not installed."""
    scale, written = _scale_end(maps.attention)
    strengths = [[min(w / scale, 1.0) if math.isfinite(w) else 0.0 for w in row] for row in maps.attention]
    return _token_map("attention weight", maps.tokens, maps.attention, strengths, TEACHER, (written, "0"))


def _scale_end(values: Sequence[Sequence[float]]) -> tuple[float, str]:
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
    tokens: Sequence[str],
    values: Sequence[Sequence[float]],
    strengths: Sequence[Sequence[float]],
    color: str,
    scale_ends: tuple[str, str],
) -> str:
    """A square of cells, queries down and keys across, as strong in color as `strengths` (0 to 1) says."""
    labels = [printable(token) for token in tokens]
    margin = 26 + 5.6 * max(map(len, labels), default=0)
    top, right = 42.0, 6.0
    with drawing_style():
        figure, axes = one_plot(
            margin + _CELLS + right, top + _CELLS + margin, left=margin, right=right, top=top, bottom=margin
        )
        gaps = 0.7 if len(tokens) <= 40 else 0.0
        axes.pcolormesh(_shades(color, strengths), gid="cells", clip_on=False, edgecolor=SURFACE, linewidth=gaps)
        axes.invert_yaxis()
        _token_ticks(axes, labels)
        _color_scale(figure, color, name, scale_ends, left=margin)
        return inline_svg(
            figure,
            name.replace(" ", "-"),
            f"Map of {name}, queries in rows, keys in columns",
            {"cells": _tooltips(name, labels, values)},
        )


def _tooltips(name: str, labels: Sequence[str], values: Sequence[Sequence[float]]) -> list[str]:
    return [
        f"{query} ← {key}: {name} {significant(value)}"
        for query, row in zip(labels, values, strict=True)
        for key, value in zip(labels, row, strict=True)
    ]


def _shades(color: str, strengths: Sequence[Sequence[float]]) -> list[list[tuple[float, ...]]]:
    """The color at each strength, as opacity: so it fades into a light page and into a dark one."""
    from matplotlib.colors import to_rgba

    return [[to_rgba(color, strength) for strength in row] for row in strengths]


def _token_ticks(axes: Axes, labels: Sequence[str]) -> None:
    every = math.ceil(len(labels) / _MOST_LABELS) or 1
    places = [i + 0.5 for i in range(0, len(labels), every)]
    size = min(9.5, _CELLS / max(len(places), 1) * 0.8)
    axes.set_xticks(places, labels[::every], rotation=90, fontsize=size)
    axes.set_yticks(places, labels[::every], fontsize=size)
    axes.tick_params(length=0)
    axes.set(xlabel="key", ylabel="query")
    hide_frame(axes)


def _color_scale(figure: Figure, color: str, name: str, ends: tuple[str, str], *, left: float) -> None:
    """A bar from full color to none above the cells, with what its two ends stand for."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes(((left + _CELLS - _BAR) / width, 1 - 22 / height, _BAR / width, 8 / height))
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
