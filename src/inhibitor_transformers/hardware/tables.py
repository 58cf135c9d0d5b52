"""Comparisons as tables."""

from __future__ import annotations

from collections.abc import Sequence

from ..report import Table
from .comparison import Row

_UNITS = {
    "logic": ("logic, pJ per pair", 1e12, ".1f"),
    "registers": ("with registers, pJ per pair", 1e12, ".1f"),
    "area": ("area, 1,000 μm²", 1e-3, ".0f"),
    "path": ("critical path, ns", 1.0, ".1f"),
    "cycles": ("cycles per pair", 1.0, ".2f"),
    "memory_bits": ("memory bits per pair", 1.0, ".0f"),
}


def comparison_table(rows: Sequence[Row]) -> Table:
    """One line per row: where it was measured, both heads, and their ratio."""
    lines = []
    for row in rows:
        name, unit, digits = _UNITS[row.measure]
        values = (f"{value * unit:{digits}}" for value in (row.softmax, row.inhibitor))
        lines.append([str(row.layer), str(row.bits), str(row.n), str(row.d), name, *values, f"{row.ratio:.2f}"])
    columns = ["layer", "bits", "tokens", "head size", "", "softmax", "inhibitor", "softmax / inhibitor"]
    return Table("A head on standard cells", columns, lines)
