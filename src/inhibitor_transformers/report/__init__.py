"""The report of a distillation: what was measured, and the same facts in the terminal, as Markdown and as a page."""

from .card import require_own_card, write_card
from .markdown import markdown_table, render_markdown
from .page import render_html, write_report
from .results import AttentionMaps, DistillationReport, StageResult, Throughput
from .tables import Table
from .terminal import print_summary, print_table

__all__ = [
    "AttentionMaps",
    "DistillationReport",
    "StageResult",
    "Table",
    "Throughput",
    "markdown_table",
    "print_summary",
    "print_table",
    "render_html",
    "render_markdown",
    "require_own_card",
    "write_card",
    "write_report",
]
