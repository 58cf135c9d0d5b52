"""Scores on the terminal and as a file that appears whole or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.evaluation.tables import print_scores, require_free_for_scores, write_scores

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


def test_where_scores_cannot_go(tmp_path):
    """Found out before the measurement, which may take hours; and no pipe is read, which would never end."""
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe-link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {
        "file": "holds no scores",
        ".": "is a folder; name a file",
        "file/new.json": r"cannot be written: .*file is a file, not a folder",
        "file/new/deeper.json": r"cannot be written: .*file is a file, not a folder",
        "pipe": "is no regular file",
        "pipe-link": "is no regular file",
        "loop": "a loop of links",
        "loop/new.json": "a loop of links",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            require_free_for_scores(tmp_path / name, overwrite=True)
    with pytest.raises(ConfigError, match="no regular file"):
        require_free_for_scores("/dev/null", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="no permission to write"):
        require_free_for_scores(tmp_path / "new" / "scores.json", overwrite=False)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    require_free_for_scores("~/new/scores.json", overwrite=False)
    write_scores("~/new/scores.json", "mrpc", ROWS)
    assert os.listdir() == ["new"]
    with pytest.raises(ConfigError, match="add --overwrite"):
        require_free_for_scores("~/new/scores.json", overwrite=False)


def test_a_link_stays_one(tmp_path):
    write_scores(tmp_path / "scores.json", "old", {})
    (tmp_path / "link.json").symlink_to("scores.json")
    write_scores(tmp_path / "link.json", "new", ROWS)
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "scores.json").read_text())["title"] == "new"
