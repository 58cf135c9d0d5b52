"""A report's two files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inhibitor_transformers.report import page, render_html, render_markdown, write_report
from tests.report.cases import EMPTY, make_report


def test_writes_both_files_and_nothing_else(tmp_path):
    folder = tmp_path / "new" / "folder"
    paths = write_report(make_report(), folder)
    assert paths == (folder / "report.md", folder / "report.html")
    assert set(folder.iterdir()) == set(paths)
    assert paths[0].read_bytes().decode() == render_markdown(make_report())
    assert paths[1].read_bytes().decode() == render_html(make_report())


def test_replaces_an_older_report(tmp_path):
    write_report(EMPTY, tmp_path)
    markdown, _ = write_report(make_report(), tmp_path)
    assert markdown.read_text(encoding="utf-8").startswith("# Quickstart")


def test_an_interrupted_write_leaves_the_older_report(tmp_path, monkeypatch):
    markdown, _ = write_report(EMPTY, tmp_path)
    before = markdown.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(make_report(), tmp_path)
    assert markdown.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.html"}


def test_files_are_complete_when_they_appear(tmp_path, monkeypatch):
    seen_sizes = {}
    replace = Path.replace

    def watch(self: Path, target: Path) -> Path:
        seen_sizes[target.name] = (self.stat().st_size, target.exists())
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    for path in write_report(make_report(), tmp_path):
        assert seen_sizes[path.name] == (path.stat().st_size, False)


def test_measurements_survive_a_page_that_cannot_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "render_html", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(make_report(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_importing_the_report_is_cheap():
    code = (
        "import sys, inhibitor_transformers.report\n"
        "heavy = {'matplotlib', 'numpy', 'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
