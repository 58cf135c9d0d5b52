"""Docstrings as they stand in the source: Google's sections, Markdown's backticks, paragraphs that list fields."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

PACKAGE = "inhibitor_transformers"

_CONFIG = Config(napoleon_use_rtype=False)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)(?=(\w)?)")
_MARKUP = re.compile(r"(\*\w+\*)|([|*]|(?<=\w)_(?!\w))")  # *emphasis* is the same in both languages
_DIRECTIVE = re.compile(r"^\s*\.\. ")
_FIELD = re.compile(r"(?:^|\n|(?<=[.;])\s+)(?=[a-z_]\w*(?:, \w+)*: )")


def _literal(found: re.Match[str]) -> str:
    # what follows a literal directly, as in `Table`s, needs an escaped blank between them
    return f"``{found[1]}``" + ("\\ " if found[2] else "")


def _escaped(found: re.Match[str]) -> str:
    return found[1] or f"\\{found[2]}"


def _paragraph(text: str) -> str:
    """Markdown's inline code as reStructuredText's; every other mark stands for itself."""
    pieces = re.split(r"(`[^`]+`)", text)
    escaped = "".join(piece if piece.startswith("`") else _MARKUP.sub(_escaped, piece) for piece in pieces)
    return _CODE.sub(_literal, escaped)


def _fields(paragraph: str) -> str:
    """A list of the fields that a paragraph describes one after the other, "field: what it is", if it does."""
    items = [item for item in _FIELD.split(paragraph) if item.strip()]
    if not paragraph or not _FIELD.match(paragraph):
        return _paragraph(paragraph)
    listed = []
    for item in items:
        names, _, what = item.partition(": ")
        code = ", ".join(f"``{name}``" for name in names.split(", "))
        listed.append(f"* {code}: " + _paragraph(" ".join(what.split())))
    return "\n".join(listed)


def _convert(lines: list[str]) -> list[str]:
    """Every paragraph but those below a directive, which are in its own language (formulas)."""
    converted = [
        block if _DIRECTIVE.match(block) else _fields(block) for block in re.split(r"(\n\s*\n)", "\n".join(lines))
    ]
    return "".join(converted).split("\n")


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _convert(lines)
    if what not in {"attribute", "data", "property"}:  # there Google's style takes what precedes a colon for a type
        lines[:] = GoogleDocstring(lines, _CONFIG, app, what, name, obj, options).lines()


def _own_fields(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Of settings, what this package adds to the dozens of TrainingArguments or of a model's configuration."""
    if what != "class" or not dataclasses.is_dataclass(obj) or not signature:
        return None
    if len(inspect.signature(obj).parameters) < 30:
        return _with_defaults(obj, signature.replace("~typing.", "")), None
    ours = [base for base in obj.__mro__ if base.__module__.startswith(PACKAGE)]
    names = {field for base in ours for field in inspect.get_annotations(base)}
    fields = [_field(field) for field in dataclasses.fields(obj) if field.name in names]
    return f"(*, {', '.join(fields)}, **inherited)", None


def _with_defaults(obj: Any, signature: str) -> str:
    """The signature with what a field's factory makes in place of "<factory>"."""
    for field in dataclasses.fields(obj):
        if field.init and field.default_factory is not dataclasses.MISSING:
            signature = signature.replace("<factory>", repr(field.default_factory()), 1)
    return signature


def _field(field: dataclasses.Field[Any]) -> str:
    annotation = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}: {annotation} = {field.default_factory()!r}"
    return f"{field.name}: {annotation}" + ("" if field.default is dataclasses.MISSING else f" = {field.default!r}")


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _own_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
