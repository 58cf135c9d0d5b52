"""Formulas as MathML, which browsers draw themselves: no script and no font is fetched from a server."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

_SYNONYMS = {r"\dots": r"\ldots"}


def _mathml(formula: str, node: nodes.Element, block: bool) -> str:
    for name, known in _SYNONYMS.items():
        formula = formula.replace(name, known)
    try:
        return tex2mathml(formula, as_block=block)
    except MathError as error:
        getLogger(__name__).warning("%s in the formula %s", error, formula, location=node)
        return ""


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_mathml(node.astext(), node, block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    formula = node.astext()
    if "\\\\" in formula and "\\begin" not in formula:
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    writer.body.append(f'<div class="formula">{_mathml(formula, node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
