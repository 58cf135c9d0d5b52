"""The report as Markdown (CommonMark with tables): for repositories, issues and model cards."""

from __future__ import annotations

import re

from .results import DistillationReport
from .tables import (
    STAGES_EXPLAINED,
    Table,
    introduction,
    layer_table,
    loading_code,
    stage_table,
    throughput_table,
    throughput_verdict,
)

# What CommonMark, tables and GitHub's formulas would read as markup; an underscore only outside a word.
_MARKUP = re.compile(r"([\\`*\[\]<>|~&$#]|(?<!\w)_|_(?!\w))")
# What would make a line a list item or a heading, with the characters before it that may stay.
_BLOCK = re.compile(r"^(\d*)([-+=.)])")


def render_markdown(report: DistillationReport) -> str:
    """Render the report without its plots; texts are escaped."""
    sections = [f"# {_text(report.title)}", _text(introduction(report))]
    if report.stages:
        sections += [markdown_table(stage_table(report)), _text(STAGES_EXPLAINED), markdown_table(layer_table(report))]
    if report.throughput:
        sections += [markdown_table(throughput_table(report)), _text(throughput_verdict(report.throughput))]
    sections += ["## Load the student", *(_code(*item) for item in loading_code(report.student_path))]
    if report.facts:
        sections.append(
            markdown_table(Table("Facts", ["what", "value"], [list(fact) for fact in report.facts]), numbers=False)
        )
    if report.notes:
        sections += ["## Notes", "\n".join(f"- {_line(note)}" for note in report.notes)]
    return "\n\n".join(section for section in sections if section) + "\n"


def markdown_table(table: Table, *, numbers: bool = True) -> str:
    """A table with its title as a heading; nothing for a table without rows."""
    if not table.rows:
        return ""
    rule = ["---", *["---:" if numbers else "---"] * (len(table.header) - 1)]
    rows = [rule, *([_text(cell) for cell in row] for row in table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in ([_text(cell) for cell in table.header], *rows)]
    return "\n".join([f"## {_text(table.title)}", "", *lines])


def _code(title: str, code: str) -> str:
    return f"{_text(title)}:\n\n```python\n{code}\n```"


def _text(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _line(text: str) -> str:
    """Text at the start of a line."""
    return _BLOCK.sub(r"\1\\\2", _text(text))
