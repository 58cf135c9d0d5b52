"""Texts of a teacher and its student with every token marked on which they differ, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .model_results import Continuation, NextToken

_LINE_END = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
_BLANK = "\N{OPEN BOX}"


def draw_teacher_text(continuation: Continuation) -> str:
    """Prompt and the teacher's tokens: underlined where the student chooses the same, else its choice above them."""
    return _paragraph(continuation, "".join(_mark(token) for token in continuation.tokens))


def draw_student_text(continuation: Continuation) -> str:
    """Prompt and the student's own tokens, those that follow the first difference in its color."""
    same, other = continuation.own[: continuation.common], continuation.own[continuation.common :]
    text = f"<span>{_escape(same)}</span>" if same else ""
    return _paragraph(continuation, text + (f'<span class="own">{_escape(other)}</span>' if other else ""))


def label_token(token: str) -> str:
    """A token beside a map, where blanks and line ends must be seen."""
    return token.strip() or (_LINE_END if "\n" in token else _BLANK)


def _paragraph(continuation: Continuation, text: str) -> str:
    return f'<p class="tokens"><span class="prompt">{_escape([continuation.prompt])}</span>{text}</p>'


def _mark(token: NextToken) -> str:
    blanks = token.teacher[: len(token.teacher) - len(token.teacher.lstrip(" "))]
    shown = _visible(token.teacher.removeprefix(blanks))
    if token.agrees:
        return f'{blanks}<span class="agrees">{shown}</span>'
    chosen = _visible(token.student.strip(" "))
    return f'{blanks}<ruby title="the student chooses {chosen}">{shown}<rt>{chosen}</rt></ruby>'


def _visible(token: str) -> str:
    """A token without blanks before it, escaped; something is seen of each."""
    return escape("".join(_shown(c) for c in token) or _BLANK, quote=True)


def _shown(character: str) -> str:
    if character == "\n":
        return _LINE_END
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _escape(pieces: Sequence[str]) -> str:
    """Running text, whose line ends stay."""
    text = "".join(pieces)
    return escape("".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
