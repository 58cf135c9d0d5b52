"""A report's two files."""

from __future__ import annotations

from pathlib import Path

from ..common.atomic import atomic_write
from ..common.paths import expanded
from .markdown import render_markdown
from .page import render_html
from .results import DistillationReport


def write_report(report: DistillationReport, folder: str | Path) -> tuple[Path, Path]:
    """Write `folder`/report.md and `folder`/report.html and return their paths.

    Each file appears whole or not at all, and replaces an older one. The Markdown comes first, so that
    the measurements are kept where the page cannot be drawn.

    Raises ValueError if matplotlib is missing.
    """
    folder = expanded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    markdown = atomic_write(folder / "report.md", render_markdown(report))
    return markdown, atomic_write(folder / "report.html", render_html(report))
