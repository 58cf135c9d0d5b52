"""What a conversion did, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from .sites import Record, Site


@dataclass(frozen=True)
class ConversionReport:
    """model: the converted class. record: what was converted, what was left, and the options."""

    model: str
    record: Record

    def __str__(self) -> str:
        record = self.record
        total = len(record.sites) + len(record.unconverted)
        lines = [f"{self.model}: {len(record.sites)} of {total} attention modules compute inhibitor attention"]
        lines += [f"  {names}  {described}" for names, described in self.converted()]
        lines += [f"  {left.name}  softmax: {left.reason}" for left in record.unconverted]
        return "\n".join(lines)

    def converted(self) -> list[tuple[str, str]]:
        """(names, description) of the converted modules, neighbors that are alike together."""
        return [(_range([s.name for s in group]), _describe(group[0])) for group in _alike(self.record.sites)]


def _describe(site: Site) -> str:
    heads = f"{site.heads} heads" if site.heads == site.kv_heads else f"{site.heads} heads on {site.kv_heads}"
    parts = [site.kind, f"{heads} of {site.dim}"]
    parts += ["causal"] if site.is_causal else []
    parts += ["score bias"] if site.has_bias else []
    parts += [f"applied {site.applications} times"] if site.applications > 1 else []
    return ", ".join(parts)


def _alike(sites: tuple[Site, ...]) -> list[list[Site]]:
    """Neighbors that differ by their name only."""
    return [list(group) for _, group in groupby(sites, key=_describe)]


def _range(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)})"
