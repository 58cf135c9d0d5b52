"""The report as one HTML page that needs nothing but itself (no scripts, no fonts, no requests), and its files."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..common.atomic import atomic_write
from ..common.paths import expand_user
from . import elements, plots, token_map
from .markdown import render_markdown
from .results import AttentionMaps, DistillationReport
from .tables import (
    STAGES_EXPLAINED,
    headlines,
    introduction,
    layer_table,
    loading_code,
    stage_correlation,
    stage_label,
    stage_table,
    throughput_table,
    throughput_verdict,
)


def write_report(report: DistillationReport, folder: str | Path) -> tuple[Path, Path]:
    """Write `folder`/report.md and `folder`/report.html and return their paths.

    Each file appears whole or not at all, and replaces an older one. The Markdown comes first, so that
    the measurements are kept where the page cannot be drawn.

    Raises ValueError if matplotlib is missing.
    """
    folder = expand_user(folder)
    folder.mkdir(parents=True, exist_ok=True)
    markdown = atomic_write(folder / "report.md", render_markdown(report))
    return markdown, atomic_write(folder / "report.html", render_html(report))


def render_html(report: DistillationReport) -> str:
    """The whole report; all texts are escaped. Raises ValueError if matplotlib is not installed."""
    content = [
        _header(report),
        _stages(report),
        _layers(report),
        _similarities(report),
        _maps(report.maps) if report.maps and report.maps.tokens else "",
        _throughput(report),
        _loading(report),
        elements.facts(report.facts),
        elements.notes(report.notes),
    ]
    return elements.page(report.title, content)


def _header(report: DistillationReport) -> str:
    return elements.header(report.title, introduction(report), headlines(report))


def _stages(report: DistillationReport) -> str:
    table = stage_table(report)
    if not table.rows:
        return ""
    return elements.section(table.title, elements.table(table) + elements.small(STAGES_EXPLAINED))


def _layers(report: DistillationReport) -> str:
    curve = plots.layer_errors(report.curves)
    table = layer_table(report)
    parts = []
    if curve:
        remark = "on the texts being trained on"
        parts.append(elements.figure("During training", remark, curve))
    if table.rows:
        caption = '<h3>After each stage <span class="small">on held-out text</span></h3>'
        parts.append(f"<div>{caption}{elements.table(table)}</div>")
    return elements.section(table.title, elements.grid(parts)) if parts else ""


def _similarities(report: DistillationReport) -> str:
    limits = plots.shared_limits(report.similarities)
    panels, undefined = [], []
    for stage, (teacher, student) in report.similarities.items():
        if plot := plots.similarity_scatter(stage, teacher, student, limits):
            panels.append(elements.figure(stage_label(stage), stage_correlation(report, stage), plot))
        else:
            undefined.append(stage_label(stage))
    if not panels:
        return ""
    explained = (
        "Each dot is one pair of held-out texts. On the dashed line student and teacher find the pair equally alike; "
        "for ranking texts, only the order matters."
    )
    if undefined:
        explained += f" Not drawn, as no cosine is a finite number: {', '.join(undefined)}."
    return elements.section("Similarity of sentence pairs", elements.grid(panels, "three") + elements.small(explained))


def _maps(maps: AttentionMaps) -> str:
    explained = (
        "Full color means that much passes from key to query: inhibition Z shrinks the values, so 0 passes fully and "
        "a large Z blocks, whereas of the attention weights the large ones pass."
    )
    panels = [
        elements.figure("Student: inhibition", f"layer {maps.layer}, head {maps.head}", token_map.inhibition_map(maps)),
        elements.figure("Teacher: attention", "the head that was copied", token_map.attention_map(maps)),
    ]
    return elements.section(
        "One sentence: inhibition beside attention", elements.small(explained) + elements.grid(panels)
    )


def _throughput(report: DistillationReport) -> str:
    table = throughput_table(report)
    if not table.rows:
        return ""
    return elements.section(
        table.title, elements.table(table) + f"<p>{escape(throughput_verdict(report.throughput))}</p>"
    )


def _loading(report: DistillationReport) -> str:
    parts = [
        f"<h3>{escape(library)}</h3><pre><code>{escape(code)}</code></pre>"
        for library, code in loading_code(report.student_path)
    ]
    return elements.section("Load the student", "".join(parts))
