"""The page: complete, escaped, self-contained, and honest about what is missing."""

from __future__ import annotations

import ast
import itertools
import re

import pytest

from inhibitor_transformers.report import AttentionMaps, StageResult, render_html, render_markdown, write_report
from tests.report.cases import (
    EMPTY,
    HOSTILE,
    LAYER_ROWS,
    SPEED_ROWS,
    STAGE_ROWS,
    Page,
    hostile_report,
    make_report,
    markdown_tables,
    printed,
)


def test_page_has_every_table():
    page = Page(render_html(make_report()))
    assert page.text_of("th", "td") == list(itertools.chain(*STAGE_ROWS, *LAYER_ROWS, *SPEED_ROWS))


def test_a_wide_table_scrolls_and_shows_it():
    """On a phone the first table ended at the edge, without a sign that it goes on."""
    page = Page(render_html(make_report()))
    boxes = [attributes for attributes in page.all("div") if attributes.get("class") == "scroll"]
    assert len(boxes) == len(page.all("table")) == 3
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)
    (style,) = page.text_of("style")
    (rule,) = re.findall(r"\.scroll \{(.*?)\}", style, re.S)
    assert "overflow-x: auto" in rule
    assert "scrollbar-color" in rule
    assert rule.count("100% local") == rule.count("100% scroll") == 2
    assert len(re.findall(r"--shade: ", style)) == 2, "set for light and for dark"


def test_page_has_a_plot_of_each_kind():
    labels = [svg["aria-label"] for svg in Page(render_html(make_report())).all("svg")]
    assert len(labels) == 5
    assert [label.split()[0] for label in labels] == ["Lines:", "Scatter:", "Scatter:", "Map", "Map"]
    assert "inhibition" in labels[3]
    assert "attention" in labels[4]


def test_page_shows_the_last_stage_at_a_glance():
    page = Page(render_html(make_report()))
    assert page.text_of("dt")[:4] == ["0.972", "0.88–0.93", "0.210", "0.23–0.41×"]
    assert {"0.312 at the start", "-0.02 to 0.22 at the start", "909 at the start"} <= set(page.text_of("dd"))


@pytest.mark.parametrize("path", ["quickstart", 'C:\\my "runs"\\new', "it's/ünï", "a\nb", "odd \udcff byte"])
def test_loading_code_is_python_that_names_the_folder(path, tmp_path):
    _, html = write_report(make_report(student_path=path), tmp_path)
    codes = Page(html.read_text(encoding="utf-8")).text_of("code")
    assert len(codes) == 2
    for code in codes:
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        sources = [ast.literal_eval(call.args[0]) for call in calls if "encode" not in ast.unparse(call.func)]
        assert sources
        assert set(sources) == {path}


def test_rendering_twice_gives_the_same():
    assert render_html(make_report()) == render_html(make_report())


def test_page_shows_markup_in_texts_as_it_is():
    page = Page(render_html(hostile_report()))
    assert page.all("script") == []
    assert page.comments == []
    shown = HOSTILE.replace("_", " ")  # a stage's underscores are written as spaces
    assert page.text_of("title")[0] == page.text_of("h1")[0] == HOSTILE
    assert page.text_of("li") == [HOSTILE]
    assert page.text_of("dd")[-1] == page.text_of("dt")[-1] == HOSTILE
    assert page.text_of("th").count(shown) == 2
    assert HOSTILE in page.text_of("td")
    assert "$a$" in page.text_of("text")
    assert any(text.startswith(HOSTILE[:10]) for text in page.text_of("text"))


def test_tokens_that_svg_cannot_hold_are_replaced():
    tokens = ["\x00", "a\nb", "\x1b[1m", "a-very-long-token-indeed"]
    square = [[0.25] * 4] * 4
    page = Page(render_html(make_report(maps=AttentionMaps(tokens, 0, 0, square, square))))
    labels = page.text_of("text")
    assert {"\N{REPLACEMENT CHARACTER}", "a\N{REPLACEMENT CHARACTER}b", "a-very-long-t…"} <= set(labels)
    assert not any(c in page.text for c in "\x00\x1b")


def test_page_needs_nothing_but_itself():
    html = render_html(make_report())
    page = Page(html)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "image", "iframe", "object", "base", "a"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "xlink:href")
            assert name != "href" or (value or "").startswith("#"), (tag, value)
            assert all(reference == "#" for reference in re.findall(r"url\((.)", value or ""))
    (style,) = page.text_of("style")
    assert "url(" not in style
    assert "@import" not in style
    assert "//" not in re.sub(r"<[^>]*>", "", html)


def test_page_forbids_requests():
    policies = [m for m in Page(render_html(make_report())).all("meta") if "http-equiv" in m]
    assert [(m["http-equiv"], m["content"]) for m in policies] == [
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
    ]


def test_ids_are_unique_and_references_lead_to_them():
    page = Page(render_html(make_report()))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    used = set()
    for _, attributes in page.elements:
        used |= set(re.findall(r"#([\w.-]+)", f"{attributes.get('href')} {attributes.get('clip-path')}"))
    assert len(set(ids)) == len(ids)
    assert used == set(ids)


@pytest.mark.parametrize(
    "missing",
    [
        {"maps": None},
        {"curves": {}},
        {"similarities": {}},
        {"throughput": []},
        {"facts": []},
        {"notes": []},
        {"maps": AttentionMaps([], 0, 0, [], [])},
        {"curves": {"layer 0": []}},
        {"stages": []},
    ],
    ids=lambda missing: next(iter(missing)),
)
def test_what_is_missing_leaves_no_section(missing):
    titles = {
        "maps": "One sentence: inhibition beside attention",
        "similarities": "Similarity of sentence pairs",
        "throughput": "Sequences per second",
        "facts": "Facts",
        "notes": "Notes",
        "stages": "After each stage",
    }
    (name,) = missing
    page = Page(render_html(make_report(**missing)))
    expected = {title for field, title in titles.items() if field != name}
    assert set(page.text_of("h2")) == expected | {"Attention error of each layer", "Load the student"}
    if name == "curves":
        assert not any("Lines" in (svg["aria-label"] or "") for svg in page.all("svg"))
    headings = [line for line in render_markdown(make_report(**missing)).splitlines() if line.startswith("## ")]
    assert (f"## {titles.get(name)}" in headings) is False


def test_an_empty_report():
    page = Page(render_html(EMPTY))
    assert page.text_of("h2") == ["Load the student"]
    assert "copied from the teacher and not yet fitted to it." in page.text
    assert markdown_tables(render_markdown(EMPTY)) == []
    assert printed(EMPTY, 80).strip() == "Nothing"


def test_one_stage_has_nothing_to_compare_with():
    stage = StageResult("start", 0.0, [527.0], 0.3, {})
    html = render_html(make_report(stages=[stage]))
    assert "at the start" not in html
    assert "not yet fitted" in html
    assert markdown_tables(render_markdown(make_report(stages=[stage])))[0][1:] == [["start", "–", "527", "0.300"]]
