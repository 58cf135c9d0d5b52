"""Layer errors over steps, and the similarities of sentence pairs, each one inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .svg import MUTED, STUDENT, drawing_style, hide_frame, inline_svg, one_plot, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

Points = Sequence[tuple[float, float]]
Dashes = tuple[float, ...]

# From the first layer to the last; all readable on white and on black.
_DEPTH_COLORS = ("#159a86", "#3b82d6", "#8a63d2", "#cf4f8b")
# Neighbors differ in both, and only every twentieth curve has the same two: hues alone are not enough to tell by.
_DASHES: tuple[Dashes, ...] = ((), (6, 2), (2, 1.5), (8, 2, 1.5, 2))  # points on and off
_MARKERS = ("o", "s", "^", "D", "v")
_MARKED = 6  # points of a curve
_MOST_POINTS = 120
_FEW_POINTS = 30  # so few are marked, as they are all that was measured
_MOST_LABELS = 18
_MOST_DOTS = 800
_LABEL_GAP = 12.5  # points between the names of two curves


def layer_errors(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Relative error over steps, a line per layer, on a log scale; "" where there is nothing to draw.

    Raises ValueError if matplotlib is not installed.
    """
    drawn = {name: kept for name, points in curves.items() if (kept := _drawable(points))}
    if not drawn:
        return ""
    with drawing_style():
        figure, axes = one_plot(390, 310, left=40, right=88, top=30, bottom=40)
        axes.set_yscale("log")
        looks = _looks(len(drawn))
        for place, (points, look) in enumerate(zip(drawn.values(), looks, strict=True)):
            axes.plot(*zip(*points, strict=True), **look, markevery=_choose_mark(len(points), place, len(drawn)))
        _log_ticks(axes, [error for points in drawn.values() for _, error in points])
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(_plain_locator(5, integer=True))
        axes.set_title("relative error, log scale", loc="left", fontsize=10, color=MUTED, pad=12)
        _name_ends(axes, drawn, looks, width=390 - 40 - 88, height=310 - 30 - 40)
        return inline_svg(
            figure, "errors", "Lines: relative error of the attention outputs over training steps, per layer"
        )


def similarity_scatter(
    stage: str, teacher: Sequence[float], student: Sequence[float], limits: tuple[float, float]
) -> str:
    """Cosines of the same pairs, teacher's across and student's up; "" where none is finite.

    limits: of both axes, shared by all panels so that they compare; `shared_limits` finds them.

    Raises ValueError if matplotlib is not installed.
    """
    pairs = [pair for pair in zip(teacher, student, strict=True) if all(map(math.isfinite, pair))]
    pairs = pairs[:: math.ceil(len(pairs) / _MOST_DOTS) or 1]
    if not pairs:
        return ""
    with drawing_style():
        figure, axes = one_plot(264, 264, left=44, right=8, top=8, bottom=40)
        axes.plot(limits, limits, color=MUTED, linewidth=0.9, dashes=(4, 3))
        x, y = zip(*pairs, strict=True)
        axes.plot(x, y, "o", color=STUDENT, alpha=0.35, markersize=3.6, markeredgewidth=0)
        axes.set(xlim=limits, ylim=limits, xlabel="cosine, teacher", ylabel="cosine, student", aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_plain_locator(4))
        axes.grid()
        hide_frame(axes)
        name = "".join(c if c.isalnum() else "-" for c in stage)
        return inline_svg(figure, f"pairs-{name}", f"Scatter: cosines of held-out pairs, student over teacher, {stage}")


def shared_limits(similarities: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float]:
    """The smallest range, a little widened, that holds every finite cosine."""
    values = [v for pair in similarities.values() for side in pair for v in side if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(values), max(values)
    margin = max(0.04 * (high - low), 0.01)
    return low - margin, high + margin


def _drawable(points: Points) -> list[tuple[float, float]]:
    """What a log scale can show, as means over equal numbers of steps where there are too many points."""
    kept = [(step, error) for step, error in points if math.isfinite(error) and error > 0]
    size = math.ceil(len(kept) / _MOST_POINTS) or 1
    groups = [kept[start : start + size] for start in range(0, len(kept), size)]
    return [(sum(s for s, _ in group) / len(group), sum(e for _, e in group) / len(group)) for group in groups]


def _looks(count: int) -> list[dict[str, Any]]:
    """What tells each curve from the others, as matplotlib's keywords."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ramp = LinearSegmentedColormap.from_list("depth", _DEPTH_COLORS)
    return [
        {
            "color": to_hex(ramp(i / max(count - 1, 1))),
            "dashes": _DASHES[i % len(_DASHES)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "linewidth": 1.5,
            "markersize": 4.5,
        }
        for i in range(count)
    ]


def _choose_mark(points: int, place: int, curves: int) -> slice:
    """Which points of a curve bear its marker: all where they are few, else some, not those of its neighbors."""
    if points <= _FEW_POINTS:
        return slice(None)
    step = points // _MARKED
    return slice(step * (place % curves + 1) // (curves + 1), None, step)


def _log_ticks(axes: Axes, errors: Sequence[float]) -> None:
    """Plain numbers: whole decades over a wide range, finer steps over a narrow one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(errors), max(errors)
    margin = (1.05 * high / low) ** 0.05
    axes.set_ylim(low / margin, high * margin)
    decades = math.log10(high / low)
    subs = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 1.2 else (1.0, 2.0, 3.0, 5.0, 7.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8) if decades > 0.4 else _plain_locator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _plain_locator(intervals: int, *, integer: bool = False) -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(intervals, steps=[1, 2, 2.5, 5, 10], integer=integer)


class _End(NamedTuple):
    """The last point of a curve, and how the curve looks (matplotlib's keywords)."""

    name: str
    step: float
    error: float
    look: dict[str, Any]


def _name_ends(
    axes: Axes, drawn: Mapping[str, Points], looks: Sequence[dict[str, Any]], width: float, height: float
) -> None:
    """Each curve's name and look beside its end, moved up or down where they would collide.

    width, height: of the axes, in points.
    """
    low, high = (math.log(limit) for limit in axes.get_ylim())
    ends = [_End(name, *points[-1], look) for (name, points), look in zip(drawn.items(), looks, strict=True)]
    ends = sorted(ends[:: math.ceil(len(ends) / _MOST_LABELS)], key=lambda end: end.error)
    at = [(math.log(end.error) - low) / (high - low) * height for end in ends]
    for end, y in zip(ends, _spread(at, _LABEL_GAP, height), strict=True):
        right = [1 + points / width for points in (10, 22, 34)]
        at_side: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot(right, [y / height] * 3, **end.look, **at_side, markevery=[1])
        axes.text(right[-1] + 5 / width, y / height, printable(end.name), va="center", fontsize=9.5, **at_side)
        axes.annotate(
            "",
            xy=(end.step, end.error),
            xytext=(right[0], y / height),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.look["color"],
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _spread(positions: Sequence[float], gap: float, height: float) -> list[float]:
    """Sorted positions, pushed up until `gap` lies between any two, and down again from `height`."""
    moved = list(positions)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    ceiling = height
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved
