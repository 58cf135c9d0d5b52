"""`inhibit env`."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from .console import log


def env() -> None:
    """Show what is available on this machine, and why the rest is not."""
    from ..evaluation.environment import environment

    facts = environment()
    width = max(len(name) for _, name, _ in facts)
    for section, members in groupby(facts, key=itemgetter(0)):
        log(section)
        for _, name, value in members:
            log(f"  {name:{width}}  {value}")
