"""Scores on the terminal and as a file that appears whole or not at all."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from inhibitor_transformers.measure.score_table import print_scores, write_scores

ROWS = {
    "teacher": {"validation": {"f1": 0.912345, "accuracy": 0.88}, "speed": {"sequences/s": 1234.5}},
    "runs/[a] student": {"validation": {"f1": 0.9}, "test": {"accuracy": 0.5}},
}


def printed(rows=ROWS, title: str = "mrpc", width: int = 200) -> str:
    out = io.StringIO()
    print_scores(title, rows, Console(file=out, width=width))
    return out.getvalue()


def test_a_row_per_model_and_a_column_per_split_and_metric():
    rows = [line.rsplit(maxsplit=4) for line in printed().splitlines()]
    assert ["teacher", "0.9123", "0.88", "1234", "–"] in rows
    assert ["runs/[a] student", "0.9", "–", "–", "0.5"] in rows


def test_headers_name_split_and_metric():
    text = printed()
    assert all(
        word in text for word in ("mrpc", "model", "validation", "test", "speed", "f1", "accuracy", "sequences/s")
    )


@pytest.mark.parametrize("name", ["runs/[bold]x", "[/red]", "a[b]"])
def test_brackets_in_names_are_no_markup(name):
    assert name in printed({name: {"validation": {"f1": 1.0}}}, title=name)


def test_no_models_is_an_empty_table():
    assert "mrpc" in printed({})


def test_a_long_name_is_folded_not_cut():
    name = "folder/" * 30
    lines = printed({name: {"validation": {"f1": 1.0}}}, width=80).splitlines()
    assert "".join(line.split()[0] for line in lines if "/" in line) == name


def test_the_file_holds_title_and_rows(tmp_path):
    file = tmp_path / "new" / "scores.json"
    write_scores(file, "mrpc", ROWS)
    assert json.loads(file.read_text()) == {"title": "mrpc", "rows": ROWS}
    assert [p.name for p in file.parent.iterdir()] == ["scores.json"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "scores.json"
    write_scores(file, "old", {})
    original = Path.write_bytes

    def torn(self, data, **kwargs):
        original(self, data[: len(data) // 2], **kwargs)
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="no space left"):
        write_scores(file, "new", ROWS)
    monkeypatch.undo()
    assert json.loads(file.read_text())["title"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_rows_that_cannot_be_written_leave_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_scores(tmp_path / "scores.json", "mrpc", {"a": {"b": {"c": object()}}})
    assert not (tmp_path / "scores.json").exists()
