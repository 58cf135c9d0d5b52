"""The report of a distillation: what was measured, and the same facts in the terminal, as Markdown and as a page."""

from .files import write_report
from .markdown import render_markdown
from .page import render_html
from .results import AttentionMaps, DistillationReport, StageResult, Throughput
from .terminal import print_summary

__all__ = [
    "AttentionMaps",
    "DistillationReport",
    "StageResult",
    "Throughput",
    "print_summary",
    "render_html",
    "render_markdown",
    "write_report",
]
