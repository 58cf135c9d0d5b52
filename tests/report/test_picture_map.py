"""Maps over pictures: where color is, how much, and what is said of it."""

from __future__ import annotations

import pytest

from inhibitor_transformers.report import LayerMaps
from inhibitor_transformers.report.picture_map import MOST_LAYERS, draw_layers, draw_picture, shown_layers
from tests.report.cases import Page
from tests.report.model_cases import picture


def rects(figure: str) -> list[list[dict[str, str | None]]]:
    """The patches of the student's and of the teacher's map."""
    found = Page(figure).all("rect")
    return [found[: len(found) // 2], found[len(found) // 2 :]]


def test_color_is_as_strong_as_much_passes() -> None:
    student, teacher = rects(draw_layers(picture(), 0)[0])
    assert [(r["x"], r["y"]) for r in student] == [(str(x), str(y)) for y in range(2) for x in range(3)]
    opacities = [float(r["fill-opacity"] or "") for r in student]
    assert opacities == pytest.approx([0.0, 0.53, 0.8, 0.27, 0.53, 0.8], abs=0.01)  # the scale ends at 0.75
    assert [float(r["fill-opacity"] or "") for r in teacher][1] == 0.8


def test_the_scale_and_the_strongest_patch_are_told() -> None:
    first, second = (Page(figure) for figure in draw_layers(picture(), 0))
    labels = [div["aria-label"] for div in first.all("div") if div.get("class") == "over"]
    assert labels == [
        "Student, layer 0: fraction that passes, 0 to 1.00, most in row 1, column 3 of 2 x 3 patches",
        "Teacher, layer 0: probability, 0.100 to 0.300, most in row 1, column 2 of 2 x 3 patches",
    ]
    assert [text for text in first.text_of("span") if text != "0"] == ["≥ 0.750", "≥ 0.200"]
    assert second.text_of("figcaption") == ["layer 1"]


def test_each_patch_tells_its_number() -> None:
    assert Page(draw_layers(picture(), 0)[0]).text_of("title")[:3] == ["0", "0.500", "1.00"]


def test_many_patches_have_no_tooltips() -> None:
    maps = LayerMaps("q", ["layer 0"], [[0.5] * 400], [[0.1] * 400])
    page = Page(draw_layers(picture(rows=20, columns=20, maps=maps), 0)[0])
    assert len(page.all("rect")) == 800
    assert page.all("title") == []


def test_the_picture_is_encoded_once_and_referred_to() -> None:
    drawn = Page(draw_picture(picture(), 3))
    (image,) = drawn.all("image")
    assert image["id"] == "picture-3"
    assert (image["href"] or "").startswith("data:image/png;base64,iVBOR")
    figures = draw_layers(picture(), 3)
    assert not any("base64" in figure for figure in figures)
    assert all(use["href"] == "#picture-3" for figure in figures for use in Page(figure).all("use"))


@pytest.mark.parametrize(("size", "kind"), [((32, 32), "whole pixels"), ((224, 224), "whole")])
def test_small_pictures_are_shown_in_squares(size, kind) -> None:
    (svg,) = Page(draw_picture(picture(size=size), 0)).all("svg")
    assert svg["class"] == kind


def test_deep_models_show_some_layers() -> None:
    assert shown_layers(4) == [0, 1, 2, 3]
    chosen = shown_layers(24)
    assert len(set(chosen)) == MOST_LAYERS
    assert (chosen[0], chosen[-1]) == (0, 23)
