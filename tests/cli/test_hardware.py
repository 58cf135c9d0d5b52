"""`inhibit hardware`."""

from __future__ import annotations

import json

import pytest

from inhibitor_transformers import InhibiDistilBertModel
from tests.distill.tiny import bert, saved, sentences, text_file

pytest.importorskip("amaranth", reason="circuits need amaranth")
from inhibitor_transformers.hardware import heads
from inhibitor_transformers.hardware.rows import MEASURES
from tests.hardware.gates.designs import needs_library, needs_yosys


@pytest.fixture
def folders(tmp_path):
    """A student, its teacher, and texts."""
    student = saved(InhibiDistilBertModel.from_teacher(bert(), inhibitor_center="none"), tmp_path / "student")
    return student, saved(bert(), tmp_path / "teacher"), text_file(tmp_path, [" ".join(sentences(50))] * 9)


@needs_library
@needs_yosys
def test_a_table_and_a_file(inhibit, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "LANES", 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    student, teacher, text = folders
    flags = ("--bits", "4", "--length", "16", "--rows", "1", "--output", tmp_path / "rows.json")
    done = inhibit("hardware", student, "--teacher", teacher, "--text", text, *flags)
    assert done.status == 0, done.err
    assert "with registers" in done.out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["measure"] for row in rows} == set(MEASURES)
    again = inhibit("hardware", student, "--teacher", teacher, "--text", text, *flags)
    assert again.status == 2
    assert "exists: name another file, or replace it with --overwrite" in again.err


@needs_library
@needs_yosys
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--bits", "5"), "--bits must be one of [4, 8, 16], got 5"),
        (("--layers", "0,x"), "--layers must be numbers such as 0,2, got '0,x'"),
        (("--cells", "no-such-library"), "no-such-library"),
        (("--output", "/no/such/folder/rows.json"), "must be a file in a folder that exists"),
    ],
)
def test_refusals(inhibit, folders, flags, said):
    student, teacher, text = folders
    done = inhibit("hardware", student, "--teacher", teacher, "--text", text, *flags)
    assert done.status == 2
    assert said in done.err
