"""The page of a converted model beside its teacher: pictures or texts, and what was converted.

As the page of a distillation it needs nothing but itself: pictures are in it, and it may load nothing.
"""

from __future__ import annotations

import math
import re
from html import escape
from pathlib import Path

from ..common.atomic import atomic_write
from ..common.errors import ConfigError
from ..common.paths import require_writable, resolve_links
from . import elements, token_map
from .continuation import draw_student_text, draw_teacher_text, label_token
from .model_results import Continuation, ModelReport, Picture, Prediction
from .picture_map import MOST_LAYERS, draw_layers, draw_picture
from .tables import Headline

_MARK = '<meta name="generator" content="inhibit report">\n'
_POLICY = "style-src 'unsafe-inline'; img-src data:"
_LOOKED_AT = 2000  # characters in which the mark stands
_IN_A_ROW = 6  # layers
_POINT = 1.1  # pixels, with which the widest map fits the page


def require_free_for_page(path: str | Path, *, overwrite: bool) -> None:
    """Raise ConfigError unless a page can be written to `path`: nothing is there, or an older one to be overwritten."""
    file = resolve_links(path)
    if file.is_dir():
        raise ConfigError(f"{path} is a folder; name a file, such as {Path(path) / 'report.html'}")
    require_writable(path)
    if not file.exists():
        return
    with file.open("rb") as opened:
        is_page = _MARK.strip().encode() in opened.read(_LOOKED_AT)
    if not is_page:
        raise ConfigError(f"{path} exists and holds no page of this command: choose another file")
    if not overwrite:
        raise ConfigError(f"{path} exists; add --overwrite to replace it")


def write_model_page(report: ModelReport, path: str | Path) -> Path:
    """Write the page, whole or not at all, in place of an older file; through a link, if `path` is one.

    Raises ValueError if matplotlib, which draws maps of tokens, is missing.
    """
    file = resolve_links(path)
    page = render_model_page(report)
    file.parent.mkdir(parents=True, exist_ok=True)
    return atomic_write(file, page)


def render_model_page(report: ModelReport) -> str:
    """The whole page; all texts are escaped. Raises ValueError if matplotlib is not installed and there are texts."""
    title = f"{report.student}: inhibitor attention beside softmax"
    content = [
        elements.header(title, _introduce(report), _headlines(report)),
        _explain(report),
        *(_picture(picture, i) for i, picture in enumerate(report.pictures)),
        *(_continuation(continuation, i) for i, continuation in enumerate(report.continuations)),
        elements.section(report.conversion.title, elements.table(report.conversion, "words")),
        elements.facts(report.facts),
    ]
    return elements.page(title, content, styles=("page.css", "model_page.css"), policy=_POLICY, head=_MARK)


def _introduce(report: ModelReport) -> str:
    return (
        f"The student, an {report.model}, is {report.teacher} with inhibitor attention in place of softmax attention: "
        "queries and keys are compared by their Manhattan distance, and what is far is subtracted from the values "
        "through a ReLU. Both models read the same input; the teacher is its softmax original."
    )


def _headlines(report: ModelReport) -> list[Headline]:
    found = []
    tokens = sum(len(c.tokens) for c in report.continuations)
    if tokens:
        agreed = sum(c.agreed for c in report.continuations)
        found.append(
            Headline(
                f"{100 * agreed / tokens:.0f} %",
                "of next tokens are the teacher's, when the student reads the teacher's text",
                f"{agreed} of {tokens}",
            )
        )
    classified = [(p.student.label, p.teacher.label) for p in report.pictures if p.student and p.teacher]
    if classified:
        same = sum(ours == theirs for ours, theirs in classified)
        found.append(Headline(f"{same} of {len(classified)}", "pictures get the teacher's class", ""))
    done, total = report.converted
    found.append(Headline(f"{done} of {total}", "attention modules compute inhibitor attention", ""))
    return found


def _explain(report: ModelReport) -> str:
    if not (report.pictures or report.continuations):
        return ""
    what = "patch" if report.pictures else "token"
    explained = (
        f"Each map shows one query and what reaches it from every {what}, averaged over the heads of a layer. "
        "The student passes the fraction Σ|shrink(v, Z)| / Σ|v| of a key's value v that its inhibition Z leaves: "
        "1 passes whole, 0 is blocked, and the fractions need not sum to one. The teacher's attention probabilities "
        "do. Each scale runs from 0 to the number beside it, the 98th percentile."
    )
    legend = (
        '<ul class="legend"><li class="student">student: fraction that passes</li>'
        '<li class="teacher">teacher: attention probability</li></ul>'
    )
    return elements.section("How to read the maps", legend + elements.small(explained))


def _picture(picture: Picture, number: int) -> str:
    layers = picture.maps.layers
    chosen = f", {MOST_LAYERS} of {len(layers)} layers" if len(layers) > MOST_LAYERS else ""
    heading = f'<h3>What reaches {escape(picture.maps.query)} <span class="small">heads averaged{chosen}</span></h3>'
    figures = draw_layers(picture, number)
    columns = math.ceil(len(figures) / math.ceil(len(figures) / _IN_A_ROW))  # rows of about the same length
    maps = f'<div>{heading}<div class="layers" style="--columns: {columns}">{"".join(figures)}</div></div>'
    seen = f"<div>{draw_picture(picture, number)}{_classes(picture)}</div>"
    return elements.section(f"Picture {number + 1}: {picture.name}", f'<div class="picture">{seen}{maps}</div>')


def _classes(picture: Picture) -> str:
    if picture.student is None or picture.teacher is None:
        return ""
    rows = "".join(
        f"<dt>{name}</dt><dd>{escape(_written(prediction))}</dd>"
        for name, prediction in (("teacher", picture.teacher), ("student", picture.student))
    )
    same = picture.student.label == picture.teacher.label
    verdict = "✓ the same class" if same else "✗ different classes"
    return f'<dl class="facts">{rows}</dl><p class="verdict">{verdict}</p>'


def _written(prediction: Prediction) -> str:
    return f"{prediction.label} ({prediction.probability:.2f})"


def _continuation(continuation: Continuation, number: int) -> str:
    parts = []
    if continuation.tokens:
        total = len(continuation.tokens)
        parts += [
            _heading(
                "The teacher's continuation", f"{continuation.agreed} of {total} next tokens are the student's too"
            ),
            draw_teacher_text(continuation),
            elements.small(
                "Gray: the prompt. Underlined: the student, fed the text before it, chooses the same token. Dashed: it "
                "chooses the token above instead."
            ),
            _heading("The student's own continuation", _compare(continuation)),
            draw_student_text(continuation),
        ]
    cut = f", the last {len(continuation.keys)} tokens" if continuation.cut else ""
    parts.append(_heading(f"What reaches {continuation.maps.query}", f"heads averaged{cut}"))
    labels = [label_token(key) for key in continuation.keys]
    for name, draw in (("Student", token_map.passing_layers), ("Teacher", token_map.attention_layers)):
        parts.append(
            _wide(draw(continuation.maps, labels, number), f"{name}: what reaches one token, text {number + 1}")
        )
    title = f"Text {number + 1}" if continuation.tokens else f"Text {number + 1}: {continuation.prompt}"
    return elements.section(title, "".join(parts))


def _compare(continuation: Continuation) -> str:
    common = continuation.common
    if common == len(continuation.own) == len(continuation.tokens):
        return "the same, token by token"
    if common == 0:
        return "differs from its first token on"
    return f"the first {common} tokens are the teacher's" if common > 1 else "the first token is the teacher's"


def _heading(title: str, remark: str) -> str:
    return f'<h3>{escape(title)} <span class="small">{escape(remark)}</span></h3>'


def _wide(svg: str, label: str) -> str:
    """A drawing in its own size, which scrolls where the page is narrower."""
    (width,) = re.findall(r'viewBox="0 0 ([\d.]+)', svg)
    sized = svg.replace("<svg ", f'<svg style="width: {float(width) * _POINT:.0f}px" ', 1)
    return f'<div class="scroll map" tabindex="0" role="region" aria-label="{escape(label, quote=True)}">{sized}</div>'
