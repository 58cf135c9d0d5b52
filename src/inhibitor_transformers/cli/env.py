"""`inhibit env`."""

from __future__ import annotations

from itertools import groupby

from .console import say


def env() -> None:
    """Show what is available on this machine, and why the rest is not."""
    from ..measure.environment import environment

    facts = environment()
    width = max(len(fact.name) for fact in facts)
    for section, members in groupby(facts, key=lambda fact: fact.section):
        say(section)
        for fact in members:
            say(f"  {fact.name:{width}}  {fact.value}")
