"""Matplotlib figures as SVG inside an HTML page: text stays text, and colors are the page's own.

A figure is drawn in the light colors below. In the page each becomes a CSS variable, so that one drawing
serves light and dark; the page's font replaces matplotlib's, and everything that a page does not need goes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, SURFACE = "#1d2329", "#626b76", "#e3e6ea", "#fefefe"
STUDENT, TEACHER = "#2563c9", "#b4591a"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    STUDENT: "--student",
    TEACHER: "--teacher",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,  # a token such as $ is no formula
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
_GEOMETRY = {"d", "x", "y", "transform"}
_LONG_NUMBER = re.compile(r"(\.\d\d)\d+")  # a hundredth of a point is fine enough
_XLINK = "{http://www.w3.org/1999/xlink}href"


@contextmanager
def drawing_style() -> Iterator[None]:
    """What figures are made and saved under, whatever the user's matplotlibrc says.

    Raises ValueError if matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise ValueError(
            "the report's plots need matplotlib, which is not installed: run "
            "pip install 'inhibitor-transformers[quickstart]' (or pip install matplotlib)"
        ) from error
    with style.context(["default", _STYLE], after_reset=True), warnings.catch_warnings():
        # The browser draws the text, with fonts that have the glyphs which matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def inline_svg(figure: Figure, name: str, description: str, tooltips: Mapping[str, Sequence[str]] | None = None) -> str:
    """The figure as an <svg> element.

    name: prefix of its ids, so that several fit on one page.
    description: what readers hear who cannot see it.
    tooltips: gid of an artist -> texts for the shapes that it consists of, in order.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for gid, texts in (tooltips or {}).items():
        _add_tooltips(root, gid, texts)
    _drop_ballast(root)
    _rename_ids(root, name)
    for element in root.iter():
        for key in element.attrib.keys() & _GEOMETRY:
            element.set(key, _LONG_NUMBER.sub(r"\1", element.attrib[key]))
        if "style" in element.attrib:
            element.set("style", _page_style(element.attrib["style"]))
    for unwanted in ("width", "height", "version"):
        root.attrib.pop(unwanted, None)
    root.set("role", "img")
    root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode").strip()


def one_plot(
    width: float, height: float, *, left: float, right: float, top: float, bottom: float
) -> tuple[Figure, Axes]:
    """A figure with one set of axes and these margins; all in points, which the page shows as pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72))
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure, figure.add_axes(box)


def hide_frame(axes: Axes) -> None:
    """Hide the lines around the axes."""
    for spine in axes.spines.values():
        spine.set_visible(False)


def printable(text: str, longest: int = 14) -> str:
    """A token as one short line: a control character cannot stand in SVG, and a long text not beside a map."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _add_tooltips(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    (group,) = (element for element in root.iter() if element.get("id") == gid)
    shapes = [element for element in group.iter() if element.tag.endswith("}use")] or list(group)
    for shape, text in zip(shapes, texts, strict=True):
        ElementTree.SubElement(shape, "title").text = text


def _drop_ballast(root: ElementTree.Element) -> None:
    """Metadata, global style rules, and the namespaces that inline SVG does without."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if _XLINK in element.attrib:
            element.set("href", element.attrib.pop(_XLINK))


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Keep the ids that something refers to, and make them the figure's own."""
    reference = re.compile(r"(?<=#)[\w.-]+")
    used = set()
    for element in root.iter():
        for key in ("href", "clip-path"):
            if key in element.attrib:
                used |= set(reference.findall(element.attrib[key]))
                element.set(key, reference.sub(lambda match: f"{name}-{match[0]}", element.attrib[key]))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{name}-{own}")


def _page_style(style: str) -> str:
    """A style attribute with the page's colors, and of its fonts only the size."""
    kept = []
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # matplotlib before 3.11 writes size and family as one
            key, value = "font-size", next(re.finditer(r"[\d.]+px", value))[0]
        if key and key != "font-family":
            kept.append(f"{key}: {f'var({_VARIABLES[value]})' if value in _VARIABLES else value}")
    return "; ".join(kept)
