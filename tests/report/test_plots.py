"""The plots of errors and similarities."""

from __future__ import annotations

import itertools
import math
import re
import sys

import pytest

from inhibitor_transformers.report import render_html
from tests.report.cases import INF, NAN, Page, make_report, svg_of


def test_plots_take_their_colors_and_font_from_the_page():
    page = Page(render_html(make_report()))
    styles = [attributes.get("style") or "" for _, attributes in page.elements]
    (sheet,) = page.text_of("style")
    used = set(re.findall(r"var\((--\w+)\)", " ".join(styles)))
    assert used == {"--ink", "--muted", "--grid", "--surface", "--student", "--teacher"}
    for variable in used:
        assert len(re.findall(rf"{variable}: #", sheet)) == 2, f"{variable} must be set for light and for dark"
    assert not any("font-family" in style or "DejaVu" in style for style in styles)


def test_names_of_curves_do_not_overlap():
    curves = {f"layer {i}": [(1, 0.5), (2, 0.3 + 1e-4 * i)] for i in range(12)}
    svg = Page(re.findall(r"<svg.*?</svg>", render_html(make_report(curves=curves)), re.S)[0])
    transforms = [a.get("transform") or "" for a in svg.all("text")]
    heights = sorted(
        float(re.findall(r"[\d.]+", t)[-1])
        for t, text in zip(transforms, svg.text_of("text"), strict=True)
        if text.startswith("layer")
    )
    assert len(heights) == 12
    assert min(b - a for a, b in itertools.pairwise(heights)) > 12


@pytest.mark.parametrize("points", [5, 200])
def test_curves_are_told_apart_without_their_colors(points):
    """They differed in hue alone, of twelve layers by a shade: in dashes and markers, too, at curve and name."""
    curves = {f"layer {i}": [(s, 0.2 + 0.1 * i) for s in range(1, points)] for i in range(12)}
    svg = svg_of(make_report(curves=curves), "Lines")
    styles = [(a.get("d"), a.get("style") or "") for a in svg.all("path")]
    lines = [style for _, style in styles if "stroke-width: 1.5" in style]
    shapes = {re.findall(r"#\w+", style)[0]: d for d, style in styles if style.startswith("stroke: #")}
    looks = []
    for style in lines:
        color, dashes = re.findall(r"#\w+", style)[0], re.findall(r"dasharray: ([\d. ,]+)", style)
        looks.append((shapes[color], *dashes))
    assert len(looks) == 24
    assert len(set(looks[:12])) == 12
    assert sorted(looks[:12]) == sorted(looks[12:])


def test_curves_skip_what_a_log_scale_cannot_show():
    curves = {"layer 0": [(1, NAN), (2, 0.5), (3, INF), (4, 0.0), (5, 0.25)], "layer 1": [(1, NAN)]}
    texts = svg_of(make_report(curves=curves), "Lines").text_of("text")
    assert "layer 0" in texts
    assert "layer 1" not in texts


def test_long_curves_are_drawn_as_means():
    long = {"layer 0": [(step, 0.5 + 0.01 * math.sin(step)) for step in range(20_000)]}
    assert len(render_html(make_report(curves=long))) < len(render_html(make_report())) + 20_000


def test_panels_share_their_axes():
    report = make_report(similarities={"start": ([0.0, 0.1], [0.0, 0.1]), "calibrate": ([0.0, 0.9], [0.0, 0.9])})
    panels = [
        svg_of(report, f"Scatter: cosines of held-out pairs, student over teacher, {s}") for s in report.similarities
    ]
    first, second = (panel.text_of("text") for panel in panels)
    assert first == second
    assert "0.8" in first or "0.75" in first


def test_a_stage_without_finite_cosines_is_named():
    similarities = {"start": ([0.1, 0.2], [NAN, NAN]), "calibrate": ([0.1, 0.2], [0.1, 0.3])}
    page = Page(render_html(make_report(similarities=similarities)))
    assert sum("Scatter" in (svg["aria-label"] or "") for svg in page.all("svg")) == 1
    assert "Not drawn, as no cosine is a finite number: start." in page.text


def test_the_users_matplotlib_settings_neither_matter_nor_change():
    import matplotlib

    expected = render_html(make_report())
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        assert render_html(make_report()) == expected
        assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_the_error_names_the_command(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install 'inhibitor-transformers\[quickstart\]'") as error:
        render_html(make_report())
    assert isinstance(error.value.__cause__, ImportError)
    assert "\n" not in str(error.value)
