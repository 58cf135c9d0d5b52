"""A picture in gray with a map over its patches, for each layer: the student's above the teacher's, as inline SVG.

The encoded picture is on the page once; all maps refer to it. As in the maps of tokens, full color means that much
passes, and both models' maps look alike where the models do alike.
"""

from __future__ import annotations

import base64
from html import escape

from .formatting import significant
from .model_results import Picture
from .token_map import scale_end

MOST_LAYERS = 12
_MOST_TOOLTIPS = 256  # patches of one map
_SMALL = 128  # pixels of a picture that is shown in squares instead of blurred
_STRONGEST = 0.8  # opacity, through which the picture is still seen


def draw_picture(picture: Picture, number: int) -> str:
    """The picture as the models see it. number: tells the pictures of a page apart."""
    width, height = picture.size
    data = base64.b64encode(picture.png).decode("ascii")
    label = escape(f"{picture.name}, as the models see it", quote=True)
    return (
        f'<svg viewBox="0 0 {width} {height}" class="{_rendering(picture)}" role="img" aria-label="{label}">'
        f'<image id="{_name(number)}" width="{width}" height="{height}" href="data:image/png;base64,{data}"/></svg>'
    )


def draw_layers(picture: Picture, number: int) -> list[str]:
    """A figure per layer, at most `MOST_LAYERS` of them, evenly chosen with the first and the last."""
    maps = picture.maps
    return [
        f"<figure><figcaption>{escape(maps.layers[i])}</figcaption>"
        + _draw_map(picture, number, "student", f"Student, {maps.layers[i]}: fraction that passes", maps.passing[i])
        + _draw_map(picture, number, "teacher", f"Teacher, {maps.layers[i]}: probability", maps.attention[i])
        + "</figure>"
        for i in shown_layers(len(maps.layers))
    ]


def shown_layers(count: int) -> list[int]:
    """Which of so many layers are drawn."""
    if count <= MOST_LAYERS:
        return list(range(count))
    return [round(i * (count - 1) / (MOST_LAYERS - 1)) for i in range(MOST_LAYERS)]


def _draw_map(picture: Picture, number: int, model: str, name: str, values: list[float]) -> str:
    end, written = scale_end([values])
    width, height = picture.size
    most = max(range(len(values)), key=values.__getitem__)
    described = (
        f"{name}, {significant(min(values))} to {significant(max(values))}, most in row {most // picture.columns + 1}, "
        f"column {most % picture.columns + 1} of {picture.rows} x {picture.columns} patches"
    )
    return (
        f'<div class="over" role="img" aria-label="{escape(described, quote=True)}">'
        f'<svg class="{_rendering(picture, "gray")}" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<use href="#{_name(number)}"/></svg>'
        f'<svg class="{model}" viewBox="0 0 {picture.columns} {picture.rows}" preserveAspectRatio="none">'
        f"{_patches(picture, values, end)}</svg></div>"
        f'<p class="ends {model}"><span>0</span><span>{escape(written)}</span></p>'
    )


def _patches(picture: Picture, values: list[float], end: float) -> str:
    tooltips = len(values) <= _MOST_TOOLTIPS
    drawn = []
    for i, value in enumerate(values):
        place = f'<rect x="{i % picture.columns}" y="{i // picture.columns}" width="1" height="1" '
        opacity = f'fill-opacity="{_STRONGEST * min(value / end, 1.0):.2f}"'
        drawn.append(place + opacity + (f"><title>{significant(value)}</title></rect>" if tooltips else "/>"))
    return "".join(drawn)


def _name(number: int) -> str:
    return f"picture-{number}"


def _rendering(picture: Picture, kind: str = "whole") -> str:
    return f"{kind} pixels" if max(picture.size) < _SMALL else kind
