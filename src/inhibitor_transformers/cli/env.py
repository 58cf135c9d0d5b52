"""`inhibit env`."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from .console import say


def env() -> None:
    """Show what is available on this machine, and why the rest is not."""
    from ..measure.environment import environment

    facts = environment()
    width = max(len(name) for _, name, _ in facts)
    for section, members in groupby(facts, key=itemgetter(0)):
        say(section)
        for _, name, value in members:
            say(f"  {name:{width}}  {value}")
