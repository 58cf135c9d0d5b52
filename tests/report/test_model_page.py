"""The page of a converted model: complete, escaped, self-contained, readable without eyes; and its file."""

from __future__ import annotations

import re

import pytest

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.report import (
    LayerMaps,
    Prediction,
    render_html,
    render_model_page,
    require_free_for_page,
    write_model_page,
)
from tests.report.cases import HOSTILE, Page, make_report
from tests.report.model_cases import continuation, hostile_model_report, model_report, picture


def test_every_part_is_there() -> None:
    page = Page(render_model_page(model_report()))
    assert page.text_of("h1") == ["mine: inhibitor attention beside softmax"]
    assert page.text_of("h2") == [
        "How to read the maps",
        "Picture 1: cat.png",
        "Picture 2: dog.png",
        "Text 1",
        "Text 2",
        "What was converted",
        "Facts",
    ]
    cells = ["a … b (2)", "inhibitor", "4 heads", "c", "softmax", "not asked for"]
    assert page.text_of("th", "td") == ["attention modules", "computes", "why", *cells]


def test_the_numbers_at_a_glance() -> None:
    page = Page(render_model_page(model_report()))
    assert page.text_of("dt")[:3] == ["67 %", "1 of 2", "2 of 3"]
    assert "4 of 6" in page.text_of("dd")
    without = Page(render_model_page(model_report(continuations=[], pictures=[picture(student=None, teacher=None)])))
    assert without.text_of("dt")[:2] == ["2 of 3", "device"]


def test_classes_are_told() -> None:
    page = Page(render_model_page(model_report(continuations=[])))
    assert {"cat (0.91)", "cat (0.90)", "dog (0.50)"} <= set(page.text_of("dd"))
    assert [text for text in page.text_of("p") if "class" in text] == ["✓ the same class", "✗ different classes"]


def test_each_continuation_says_how_far_it_agrees() -> None:
    page = Page(render_model_page(model_report(pictures=[], continuations=[continuation()])))
    assert {"2 of 3 next tokens are the student's too", "the first token is the teacher's"} <= set(page.text_of("span"))
    assert "heads averaged, the last 2 tokens" in page.text_of("span")


@pytest.mark.parametrize(
    ("common", "own", "said"),
    [
        (0, [" x"], "differs from its first token on"),
        (3, [" sat", " on", "\n"], "the same, token by token"),
        (2, [" sat", " on"], "the first 2 tokens are the teacher's"),
    ],
)
def test_how_the_students_own_text_compares(common, own, said) -> None:
    page = Page(render_model_page(model_report(pictures=[], continuations=[continuation(common=common, own=own)])))
    assert said in page.text_of("span")


def test_an_encoders_text_has_a_map_alone() -> None:
    encoder = continuation(tokens=[], own=[], common=0, cut=0)
    page = Page(render_model_page(model_report(pictures=[], continuations=[encoder])))
    assert page.text_of("h2")[1] == "Text 1: The cat"
    assert page.text_of("h3") == ["What reaches “ sat” "]
    assert page.all("ruby") == []


def test_a_report_without_examples() -> None:
    page = Page(render_model_page(model_report(pictures=[], continuations=[], facts=[])))
    assert page.text_of("h2") == ["What was converted"]


def test_markup_in_texts_is_shown_as_it_is() -> None:
    page = Page(render_model_page(hostile_model_report()))
    assert page.all("script") == []
    assert page.comments == []
    assert page.text_of("title")[0] == f"{HOSTILE}: inhibitor attention beside softmax"
    for tag in ("td", "dt", "dd", "rt", "figcaption"):
        assert any(HOSTILE in text for text in page.text_of(tag)), tag
    assert any(HOSTILE in (attributes.get("aria-label") or "") for attributes in page.all("svg"))


def test_the_page_needs_nothing_but_itself() -> None:
    html = render_model_page(model_report())
    page = Page(html)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "base", "a"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "xlink:href")
            assert name != "href" or (value or "").startswith(("#", "data:image/png;base64,")), (tag, value)
    assert len(page.all("image")) == 2, "each picture is on the page once"
    policies = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    (style,) = page.text_of("style")
    assert "url(" not in style
    assert "@import" not in style
    assert len(re.findall("prefers-color-scheme: dark", style)) == 2, "pictures are darker in the dark"


def test_ids_are_unique_and_references_lead_to_them() -> None:
    page = Page(render_model_page(model_report()))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    used = set()
    for _, attributes in page.elements:
        used |= set(re.findall(r"^#([\w.-]+)$", attributes.get("href") or ""))
        used |= set(re.findall(r"#([\w.-]+)", attributes.get("clip-path") or ""))
    assert len(set(ids)) == len(ids)
    assert used == set(ids)


def test_every_drawing_is_described() -> None:
    page = Page(render_model_page(model_report()))
    for attributes in page.all("svg"):
        described = attributes.get("aria-label") or attributes.get("aria-hidden")
        assert described or attributes["class"] in ("student", "teacher"), attributes
    overlays = [attributes for attributes in page.all("div") if attributes.get("class") == "over"]
    assert len(overlays) == 2 * 2 * 2, "pictures, layers, models"
    assert all(overlay["role"] == "img" and overlay["aria-label"] for overlay in overlays)
    boxes = [attributes for attributes in page.all("div") if "scroll" in (attributes.get("class") or "")]
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)
    assert len({box["aria-label"] for box in boxes}) == len(boxes)


def test_rendering_twice_gives_the_same() -> None:
    assert render_model_page(model_report()) == render_model_page(model_report())


@pytest.mark.parametrize("rows", [[[0.5]], [[0.5], [0.1, 0.2]]])
def test_maps_have_a_row_per_layer(rows) -> None:
    with pytest.raises(ValueError, match="maps must have 2 rows of one length"):
        LayerMaps("q", ["layer 0", "layer 1"], rows, [[0.5], [0.5]])


def test_maps_have_a_key_per_patch() -> None:
    with pytest.raises(ValueError, match="must have 3 x 3 keys"):
        picture(rows=3, student=Prediction("cat", 1.0))


# The file


def test_the_page_is_written_with_its_folders_and_replaced(tmp_path) -> None:
    file = tmp_path / "new" / "page.html"
    require_free_for_page(file, overwrite=False)
    assert write_model_page(model_report(), file) == file
    assert file.read_text(encoding="utf-8") == render_model_page(model_report())
    with pytest.raises(ConfigError, match="exists; add --overwrite"):
        require_free_for_page(file, overwrite=False)
    require_free_for_page(file, overwrite=True)


@pytest.mark.parametrize("content", ["my notes", render_html(make_report()), ""], ids=["notes", "quickstart", "empty"])
def test_what_is_no_page_of_ours_is_never_replaced(tmp_path, content) -> None:
    file = tmp_path / "page.html"
    file.write_text(content, encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="holds no page of this command: choose another file"):
            require_free_for_page(file, overwrite=overwrite)


def test_a_folder_is_no_file(tmp_path) -> None:
    with pytest.raises(ConfigError, match="is a folder; name a file, such as"):
        require_free_for_page(tmp_path, overwrite=True)
