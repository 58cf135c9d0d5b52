"""The page of supported architectures is what the script gives today."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from tests.scripts import Script

PAGE = REPOSITORY / "docs" / "reference" / "architectures.md"


def rows(page: str) -> dict[str, str]:
    """Lines of the tables by their first entry."""
    return {found[1]: found[0] for found in re.finditer(r"^\| (.+?) \|.*$", page, re.MULTILINE)}


def test_the_page_is_what_the_script_gives(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    support = script("support")
    page = support.support_page(list(support.ARCHITECTURES.values()))
    assert page == PAGE.read_text(encoding="utf-8"), "run python benchmarks/support.py --output " + str(PAGE)


def test_nothing_that_is_converted_fails() -> None:
    """Every "no" would be explained on the page; there is none."""
    assert "**no**" not in PAGE.read_text(encoding="utf-8")


def test_a_lost_weight_is_told(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    support = script("support")
    bert = support.ARCHITECTURES["Bert"]
    assert "| yes | yes | yes | – |" in rows(support.support_page([bert]))["BERT"]
    monkeypatch.setattr(support, "_load", lambda folder, student: support._moved(type(student).from_pretrained(folder)))
    assert "| **no** | yes | yes | – |" in rows(support.support_page([bert]))["BERT"]
