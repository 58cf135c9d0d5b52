"""A report, and readers of what it is rendered to."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from rich.console import Console

from inhibitor_transformers.report import (
    AttentionMaps,
    DistillationReport,
    StageResult,
    Throughput,
    print_summary,
    render_html,
)

NAN, INF = math.nan, math.inf
HOSTILE = "<script>alert('x')</script> & \"q\" *a* _b_ `c` [d](e) | $f$ <!-- &amp; \\ #g"


class Page(HTMLParser):
    """The elements of a page, (tag, attributes), and its text; fails on tags that do not close in order."""

    VOID = frozenset({"meta"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data):
        self.comments.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, *tags: str) -> list[str]:
        return [text for tag, text in self.texts if tag in tags]

    @property
    def text(self) -> str:
        return "".join(text for tag, text in self.texts if tag != "style")


def make_report(**changes) -> DistillationReport:
    tokens = ["[CLS]", "cold", "room", "[SEP]"]
    steps = range(1, 41)
    report = DistillationReport(
        title="Quickstart",
        teacher="all-MiniLM-L6-v2",
        student_path="quickstart",
        facts=[("held-out texts", "412"), ("threads", "2")],
        stages=[
            StageResult("start", 0.0, [527.3, 1290.4], 0.312, {32: 0.22, 128: -0.02}),
            StageResult("calibrate", 11.3, [0.52, 0.48], 0.921, {32: 0.83, 128: 0.76}),
            StageResult("align_attention", 187.0, [0.22, 0.2], 0.972, {32: 0.93, 128: 0.88}),
        ],
        curves={f"layer {i}": [(s, 0.2 + 0.1 * i + 0.5 / s) for s in steps] for i in range(2)},
        similarities={
            "start": ([0.1, 0.5, 0.7], [0.9, 0.92, 0.91]),
            "align_attention": ([0.1, 0.5, 0.7], [0.12, 0.45, 0.7]),
        },
        throughput=[Throughput(1, 64, 38.2, 92.1, "reference", 2), Throughput(8, 64, 41.0, 180.3, "reference", 2)],
        maps=AttentionMaps(
            tokens,
            layer=3,
            head=7,
            inhibition=[[0.0 if i == j else 0.25 * (i + j) for j in range(4)] for i in range(4)],
            attention=[[0.7 if i == j else 0.1 for j in range(4)] for i in range(4)],
        ),
        notes=["Trained for minutes."],
    )
    return dataclasses.replace(report, **changes)


EMPTY = DistillationReport("Nothing", "teacher", "out", [], [], {}, {}, [], None, [])


def hostile_report() -> DistillationReport:
    stage = StageResult(HOSTILE, 1.0, [0.5], 0.5, {32: 0.5})
    return DistillationReport(
        title=HOSTILE,
        teacher=HOSTILE,
        student_path=HOSTILE,
        facts=[(HOSTILE, HOSTILE)],
        stages=[stage],
        curves={HOSTILE: [(1, 0.5), (2, 0.4)]},
        similarities={HOSTILE: ([0.1, 0.2], [0.1, 0.3])},
        throughput=[Throughput(1, 2, 3.0, 4.0, HOSTILE, 1)],
        maps=AttentionMaps([HOSTILE, "$a$"], 0, 0, [[0.0, 1.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]),
        notes=[HOSTILE],
    )


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Tables of a Markdown text as a reader sees them: rows of cells, header first."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level >= 4:
            tables[-1][-1].append(seen(token))
    return tables


def seen(token) -> str:
    return "".join("\n" if child.type == "softbreak" else child.content for child in token.children)


def paragraphs(text: str) -> list[str]:
    return [seen(token) for token in MarkdownIt("commonmark").enable("table").parse(text) if token.type == "inline"]


def printed(report: DistillationReport, width: int) -> str:
    out = io.StringIO()
    print_summary(report, Console(file=out, width=width))
    return out.getvalue()


def svg_of(report: DistillationReport, label: str) -> Page:
    (found,) = [m for m in re.findall(r"<svg.*?</svg>", render_html(report), re.S) if f'aria-label="{label}' in m]
    return Page(found)


STAGE_ROWS = [
    ["stage", "time", "attention error", "Spearman", "cosine at 32", "cosine at 128"],
    ["start", "–", "909", "0.312", "0.220", "-0.020"],
    ["calibrate", "11 s", "0.500", "0.921", "0.830", "0.760"],
    ["align attention", "3 min 7 s", "0.210", "0.972", "0.930", "0.880"],
]
LAYER_ROWS = [
    ["layer", "start", "calibrate", "align attention"],
    ["0", "527", "0.520", "0.220"],
    ["1", "1,290", "0.480", "0.200"],
]
SPEED_ROWS = [
    ["batch × tokens", "student", "teacher", "student/teacher", "engine", "threads"],
    ["1 × 64", "38.2", "92.1", "0.41", "reference", "2"],
    ["8 × 64", "41.0", "180", "0.23", "reference", "2"],
]
