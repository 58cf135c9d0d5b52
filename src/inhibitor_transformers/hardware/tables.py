"""Comparisons as tables."""

from __future__ import annotations

from collections.abc import Sequence

from ..report import Table
from .comparison import Row

_UNITS = {
    "logic": ("logic, pJ a pair", 1e12, ".1f"),
    "registers": ("with registers, pJ a pair", 1e12, ".1f"),
    "area": ("area, 1,000 μm²", 1e-3, ".0f"),
    "path": ("critical path, ns", 1.0, ".1f"),
    "cycles": ("cycles a pair", 1.0, ".2f"),
    "memory_bits": ("memory bits a pair", 1.0, ".0f"),
}


def comparison_table(rows: Sequence[Row]) -> Table:
    """One line per row: where it was measured, both heads, and their ratio."""
    lines = []
    for row in rows:
        name, unit, digits = _UNITS[row.measure]
        values = (f"{value * unit:{digits}}" for value in (row.softmax, row.inhibitor))
        place = (row.library, row.variant, row.layer, row.bits, row.n, row.d)
        lines.append([*map(str, place), name, *values, f"{row.ratio:.2f}"])
    columns = ["cells", "variant", "layer", "bits", "n", "d", "", "softmax", "inhibitor", "ratio"]
    return Table("A head on standard cells, softmax over inhibitor", columns, lines)
