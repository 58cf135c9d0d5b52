"""The report as one HTML page that needs nothing but itself (no scripts, no fonts, no requests), and its files."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from ..common.atomic import atomic_write
from ..common.paths import expand_user
from . import plots, token_map
from .markdown import render_markdown
from .results import AttentionMaps, DistillationReport
from .tables import (
    STAGES_EXPLAINED,
    Table,
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

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""


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
        _facts(report),
        _notes(report),
    ]
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return _PAGE.format(title=escape(report.title), style=style, content="\n".join(filter(None, content)))


def _header(report: DistillationReport) -> str:
    tiles = "".join(
        f"<div><dt>{escape(h.value)}</dt><dd>{escape(h.name)}</dd><dd>{escape(h.remark)}</dd></div>"
        for h in headlines(report)
    )
    return f'<h1>{escape(report.title)}</h1>\n<p class="lead">{escape(introduction(report))}</p>' + (
        f'\n<dl class="headlines">{tiles}</dl>' if tiles else ""
    )


def _stages(report: DistillationReport) -> str:
    table = stage_table(report)
    if not table.rows:
        return ""
    return _section(table.title, _table(table) + _small(STAGES_EXPLAINED))


def _layers(report: DistillationReport) -> str:
    curve = plots.layer_errors(report.curves)
    table = layer_table(report)
    parts = []
    if curve:
        remark = "on the texts being trained on"
        parts.append(_figure("During training", remark, curve))
    if table.rows:
        caption = '<h3>After each stage <span class="small">on held-out text</span></h3>'
        parts.append(f"<div>{caption}{_table(table)}</div>")
    return _section(table.title, _grid(parts)) if parts else ""


def _similarities(report: DistillationReport) -> str:
    limits = plots.shared_limits(report.similarities)
    panels, undefined = [], []
    for stage, (teacher, student) in report.similarities.items():
        if plot := plots.similarity_scatter(stage, teacher, student, limits):
            panels.append(_figure(stage_label(stage), stage_correlation(report, stage), plot))
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
    return _section("Similarity of sentence pairs", _grid(panels, "three") + _small(explained))


def _maps(maps: AttentionMaps) -> str:
    explained = (
        "Full color means that much passes from key to query: inhibition Z shrinks the values, so 0 passes fully and "
        "a large Z blocks, whereas of the attention weights the large ones pass."
    )
    panels = [
        _figure("Student: inhibition", f"layer {maps.layer}, head {maps.head}", token_map.inhibition_map(maps)),
        _figure("Teacher: attention", "the head that was copied", token_map.attention_map(maps)),
    ]
    return _section("One sentence: inhibition beside attention", _small(explained) + _grid(panels))


def _throughput(report: DistillationReport) -> str:
    table = throughput_table(report)
    if not table.rows:
        return ""
    return _section(table.title, _table(table) + f"<p>{escape(throughput_verdict(report.throughput))}</p>")


def _loading(report: DistillationReport) -> str:
    parts = [
        f"<h3>{escape(library)}</h3><pre><code>{escape(code)}</code></pre>"
        for library, code in loading_code(report.student_path)
    ]
    return _section("Load the student", "".join(parts))


def _facts(report: DistillationReport) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.facts)
    return _section("Facts", f'<dl class="facts">{facts}</dl>') if facts else ""


def _notes(report: DistillationReport) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    return _section("Notes", f"<ul>{notes}</ul>") if notes else ""


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _small(text: str) -> str:
    return f'<p class="small">{escape(text)}</p>'


def _grid(parts: list[str], kind: str = "") -> str:
    return f'<div class="{f"grid {kind}".strip()}">{"".join(parts)}</div>'


def _figure(title: str, remark: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(title)} <span>{escape(remark)}</span></figcaption>{svg}</figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">{whole}</div>'
