"""`inhibit env`."""

from __future__ import annotations

from .console import log


def env() -> None:
    """Show versions, hardware and engines, and what is missing."""
    from ..evaluation.environment import environment

    facts = environment()
    width = max(len(name) for _, name, _ in facts)
    shown = None
    for section, name, value in facts:
        if section != shown:
            log(section)
        log(f"  {name:{width}}  {value}")
        shown = section
