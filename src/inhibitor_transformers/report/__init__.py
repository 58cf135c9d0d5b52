"""Reports: of a distillation in the terminal, as Markdown and as a page; of a converted model as a page."""

from .card import require_own_card, write_card
from .markdown import markdown_table, render_markdown
from .model_page import render_model_page, require_free_for_page, write_model_page
from .model_results import Continuation, LayerMaps, ModelReport, NextToken, Picture, Prediction
from .page import render_html, write_report
from .results import AttentionMaps, DistillationReport, StageResult, Throughput
from .tables import Table
from .terminal import print_summary, print_table

__all__ = [
    "AttentionMaps",
    "Continuation",
    "DistillationReport",
    "LayerMaps",
    "ModelReport",
    "NextToken",
    "Picture",
    "Prediction",
    "StageResult",
    "Table",
    "Throughput",
    "markdown_table",
    "print_summary",
    "print_table",
    "render_html",
    "render_markdown",
    "render_model_page",
    "require_free_for_page",
    "require_own_card",
    "write_card",
    "write_model_page",
    "write_report",
]
