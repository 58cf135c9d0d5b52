"""Texts with marked tokens."""

from __future__ import annotations

import pytest

from inhibitor_transformers.report import NextToken
from inhibitor_transformers.report.continuation import draw_student_text, draw_teacher_text, label_token
from tests.report.cases import Page
from tests.report.model_cases import continuation


def test_every_token_is_marked() -> None:
    page = Page(draw_teacher_text(continuation()))
    assert [s["class"] for s in page.all("span")] == ["prompt", "agrees", "agrees"]
    (ruby,) = page.all("ruby")
    assert ruby["title"] == "the student chooses under"
    assert page.text_of("rt") == ["under"]
    assert page.text == "The cat sat on↵under↵"


def test_the_students_text_shows_where_it_leaves() -> None:
    page = Page(draw_student_text(continuation()))
    assert page.text == "The cat sat under it"
    (own,) = [i for i, s in enumerate(page.all("span")) if s.get("class") == "own"]
    assert page.text_of("span")[own] == " under it"
    assert "own" not in draw_student_text(continuation(common=3))


@pytest.mark.parametrize(("token", "shown"), [("\x1b[1m", "�[1m"), ("", "␣"), ("  ", "␣"), ("\n", "↵")])
def test_something_is_seen_of_each_token(token, shown) -> None:
    for agrees in (True, False):
        page = Page(draw_teacher_text(continuation(prompt="", tokens=[NextToken(token, " x", agrees)])))
        assert shown in page.text


@pytest.mark.parametrize(("token", "label"), [(" cat", "cat"), ("\n", "↵"), (" ", "␣"), ("", "␣")])
def test_labels(token, label) -> None:
    assert label_token(token) == label
