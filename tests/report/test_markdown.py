"""The Markdown: complete, and texts show as they are."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from inhibitor_transformers.report import render_html, render_markdown
from tests.report.cases import (
    HOSTILE,
    LAYER_ROWS,
    SPEED_ROWS,
    STAGE_ROWS,
    Page,
    hostile_report,
    make_report,
    markdown_tables,
    paragraphs,
    seen,
)


def test_markdown_has_every_table():
    facts = [["what", "value"], ["held-out texts", "412"], ["threads", "2"]]
    assert markdown_tables(render_markdown(make_report())) == [STAGE_ROWS, LAYER_ROWS, SPEED_ROWS, facts]


def test_loading_code_of_markdown_is_that_of_the_page():
    fences = [t.content for t in MarkdownIt().parse(render_markdown(make_report())) if t.type == "fence"]
    assert [fence.rstrip("\n") for fence in fences] == Page(render_html(make_report())).text_of("code")


def test_markdown_shows_markup_in_texts_as_it_is():
    text = render_markdown(hostile_report())
    tables = markdown_tables(text)
    assert [row[0] for row in tables[0]] == ["stage", " ".join(HOSTILE.replace("_", " ").split())]
    assert tables[2][1][4] == HOSTILE
    assert tables[3][1] == [HOSTILE, HOSTILE]
    assert paragraphs(text)[0] == HOSTILE
    assert paragraphs(text)[-1] == HOSTILE
    assert MarkdownIt().render(text).count("<script>") == 0


@pytest.mark.parametrize(
    "note", ["# heading", "1. item", "12) item", "- item", "+ item", "> quote", "===", "---", "a\n\n# b"]
)
def test_a_note_is_one_paragraph_of_its_list(note):
    tokens = MarkdownIt().parse(render_markdown(make_report(notes=["first", note, "last"])))
    items = [i for i, token in enumerate(tokens) if token.type == "list_item_open"]
    assert len(items) == 3
    assert [tokens[i + 1].type for i in items] == ["paragraph_open"] * 3
    assert seen(tokens[items[1] + 2]) == " ".join(note.split())
