"""What pages are made of: the shell that needs nothing but itself, sections, tables, figures; all texts are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from .tables import Headline, Table

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; {policy}">
{head}<title>{title}</title>
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


def page(
    title: str,
    content: Sequence[str],
    *,
    styles: Sequence[str] = ("page.css",),
    policy: str = "style-src 'unsafe-inline'",
    head: str = "",
) -> str:
    """A whole page; empty parts of its content are left out.

    styles: files beside this one. policy: what the page may load, nothing else. head: further elements, each a line.
    """
    style = "".join(files(__package__).joinpath(name).read_text(encoding="utf-8") for name in styles)
    shown = "\n".join(filter(None, content))
    return _PAGE.format(title=escape(title), style=style, content=shown, policy=policy, head=head)


def header(title: str, introduction: str, headlines: Sequence[Headline]) -> str:
    """The title, what this is, and a few numbers."""
    tiles = "".join(
        f"<div><dt>{escape(h.value)}</dt><dd>{escape(h.name)}</dd><dd>{escape(h.remark)}</dd></div>" for h in headlines
    )
    return f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(introduction)}</p>' + (
        f'\n<dl class="headlines">{tiles}</dl>' if tiles else ""
    )


def section(title: str, content: str) -> str:
    """A box with a heading; `content` is HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def small(text: str) -> str:
    """A remark."""
    return f'<p class="small">{escape(text)}</p>'


def grid(parts: Sequence[str], kind: str = "") -> str:
    """Parts of HTML side by side as far as there is room."""
    return f'<div class="{f"grid {kind}".strip()}">{"".join(parts)}</div>'


def figure(title: str, remark: str, svg: str) -> str:
    """A drawing with its caption."""
    return f"<figure><figcaption>{escape(title)} <span>{escape(remark)}</span></figcaption>{svg}</figure>"


def table(content: Table, kind: str = "") -> str:
    """A table that scrolls where it is too wide; its title is what readers hear who cannot see it."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in content.header)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in content.rows
    )
    opening = f'<table class="{kind}">' if kind else "<table>"
    whole = f"{opening}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(content.title)}">{whole}</div>'


def facts(listed: Sequence[tuple[str, str]]) -> str:
    """The section of names and values; "" where there are none."""
    found = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in listed)
    return section("Facts", f'<dl class="facts">{found}</dl>') if found else ""


def notes(listed: Sequence[str]) -> str:
    """The section of remarks; "" where there are none."""
    found = "".join(f"<li>{escape(note)}</li>" for note in listed)
    return section("Notes", f"<ul>{found}</ul>") if found else ""
