"""The maps of inhibition and attention."""

from __future__ import annotations

import itertools
import re

import pytest

from inhibitor_transformers.report import AttentionMaps, LayerMaps
from inhibitor_transformers.report.token_map import attention_layers, passing_layers
from tests.report.cases import INF, NAN, Page, make_report, svg_of


def opacities(svg: Page) -> list[float]:
    """Of the cells, in rows; the color scale has no tooltips and is left out."""
    cells = []
    for (tag, attributes), (following, _) in itertools.pairwise(svg.elements):
        if tag == "path" and following == "title":
            style = attributes["style"] or ""
            found = re.search(r"fill-opacity: ([\d.]+)", style)
            cells.append(float(found[1]) if found else 0.0 if "fill: none" in style else 1.0)
    return cells


def test_full_color_means_that_much_passes():
    report = make_report()
    inhibition, attention = opacities(svg_of(report, "Map of inh")), opacities(svg_of(report, "Map of att"))
    assert len(inhibition) == len(attention) == 16
    assert [inhibition[i] for i in (0, 5, 10, 15)] == [1.0] * 4
    assert inhibition[1] == pytest.approx(0.8, abs=1e-3)  # Z = 0.25 on a scale to 1.25
    assert inhibition[11] == 0.0
    assert [attention[i] for i in (0, 5, 10, 15)] == [1.0] * 4
    assert attention[1] == pytest.approx(1 / 7, abs=1e-3)


def test_a_single_large_value_does_not_set_the_scale():
    values = [[0.5 if i else 0.0] * 8 for i in range(8)]
    values[0][0] = 40.0
    svg = svg_of(make_report(maps=AttentionMaps(["t"] * 8, 0, 0, values, values)), "Map of att")
    assert "≥ 0.500" in svg.text_of("text")
    assert opacities(svg)[0] == opacities(svg)[8] == 1.0


@pytest.mark.parametrize("largest", [1.0, 0.99999, 1.0000001])
def test_weights_that_all_read_1_have_no_larger_ones(largest):
    """ "≥ 1.00" was said of attention weights, of which none can be larger than 1."""
    values = [[0.9996 if i == j else 0.0 for j in range(4)] for i in range(4)]
    values[0][0] = largest
    texts = svg_of(make_report(maps=AttentionMaps(["t"] * 4, 0, 0, values, values)), "Map of att").text_of("text")
    assert "1.00" in texts
    assert not any("≥" in text for text in texts)


def test_what_is_written_is_where_the_scale_ends():
    values = [[0.49996 if i else 0.0 for _ in range(8)] for i in range(8)]
    values[0][0] = 0.7
    svg = svg_of(make_report(maps=AttentionMaps(["t"] * 8, 0, 0, values, values)), "Map of att")
    assert "≥ 0.500" in svg.text_of("text")
    assert opacities(svg)[8] == pytest.approx(0.49996 / 0.5, abs=1e-6)


def test_cells_tell_their_values():
    titles = svg_of(make_report(), "Map of inh").text_of("title")
    assert titles[1] == "[CLS] ← cold: inhibition Z 0.250"
    assert titles[4] == "cold ← [CLS]: inhibition Z 0.250"
    assert titles[11] == "room ← [SEP]: inhibition Z 1.25"


def test_a_blocked_or_undefined_cell_has_no_color():
    maps = AttentionMaps(["a", "b"], 0, 0, [[0.0, INF], [NAN, 0.5]], [[1.0, 0.0], [NAN, 0.5]])
    assert opacities(svg_of(make_report(maps=maps), "Map of inh"))[1:3] == [0.0, 0.0]
    assert opacities(svg_of(make_report(maps=maps), "Map of att"))[1:3] == [0.0, 0.0]
    assert "a ← b: inhibition Z infinite" in svg_of(make_report(maps=maps), "Map of inh").text_of("title")


def test_a_map_where_everything_passes():
    maps = AttentionMaps(["a", "b"], 0, 0, [[0.0, 0.0], [0.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]])
    assert opacities(svg_of(make_report(maps=maps), "Map of inh")) == [1.0] * 4


@pytest.mark.parametrize("broken", [{"inhibition": [[0.0]]}, {"attention": [[0.0, 1.0], [0.0]]}])
def test_maps_must_be_square(broken):
    square = [[0.0, 1.0], [1.0, 0.0]]
    (name,) = broken
    with pytest.raises(ValueError, match=f"{name} must be 2 x 2 for 2 tokens, got"):
        AttentionMaps(["a", "b"], 0, 0, **({"inhibition": square, "attention": square} | broken))


def test_layers_show_what_reaches_one_query():
    maps = LayerMaps("q", ["layer 0", "layer 1"], [[0.0, 0.5, 1.0], [0.5] * 3], [[0.1, 0.2, 0.4], [0.0, 0.0, 1.0]])
    for draw, name in ((passing_layers, "fraction that passes"), (attention_layers, "attention probability")):
        svg = Page(draw(maps, ["a", "b", "c"], 4))
        (drawn,) = svg.all("svg")
        assert drawn["aria-label"] == f"Map of {name}, layers in rows, keys in columns"
        assert {"layer 0", "layer 1", "a", "b", "c", name} <= set(svg.text_of("text"))
        assert all("-4-" in (element["id"] or "") for _, element in svg.elements if "id" in element)
    passing = Page(passing_layers(maps, ["a", "b", "c"], 0))
    assert opacities(passing) == pytest.approx([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # the scale ends at 0.5
    assert f"layer 0 ← c: fraction that passes {1.0:.2f}" in passing.text_of("title")
    assert "≥ 0.500" in passing.text_of("text")
