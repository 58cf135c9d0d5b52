"""A file is there whole, or as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhibitor_transformers.common.atomic import atomic_write


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old and longer")
    assert atomic_write(file, "γ new") == file
    assert file.read_text(encoding="utf-8") == "γ new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail(path: Path, target: Path) -> Path:
        assert path.read_text() == "new"
        raise OSError("no room")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        atomic_write(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_name_that_is_no_text_is_written_escaped(tmp_path: Path) -> None:
    assert atomic_write(tmp_path / "a.txt", "model\udcff").read_bytes() == b"model\\udcff"
