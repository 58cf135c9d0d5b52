"""The numbers of a comparison, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..report import Table

_UNITS = {
    "logic": ("logic, pJ", 1e12, ".1f"),
    "registers": ("with registers, pJ", 1e12, ".1f"),
    "area": ("area, 1,000 μm²", 1e-3, ".1f"),
    "path": ("critical path, ns", 1.0, ".1f"),
    "cycles": ("cycles", 1.0, ".2f"),
    "memory_bits": ("memory bits", 1.0, ".0f"),
}
MEASURES = tuple(_UNITS)
ELEMENT_MEASURES = ("logic", "registers", "area", "path")


@dataclass(frozen=True)
class Row:
    """One number of both sides, and softmax's over inhibitor's.

    cells, variant, part, layer, bits, n (tokens): of the `Setting`. d: the size of the head. measure: "logic" and
    "registers" in J, without and with registers and their clock; "area" in μm²; "path" in ns; "cycles"; "memory_bits".
    Of a head they count per pair of query and key (area and path: of the head), of an element per lane.
    """

    cells: str
    variant: str
    part: str
    layer: int
    bits: int
    n: int
    d: int
    measure: str
    softmax: float
    inhibitor: float

    @property
    def ratio(self) -> float:
        return self.softmax / self.inhibitor

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}


def comparison_table(rows: Sequence[Row]) -> Table:
    """One line per row: where it was measured, both sides, and their ratio."""
    lines = []
    for row in rows:
        name, unit, digits = _UNITS[row.measure]
        values = (f"{value * unit:{digits}}" for value in (row.softmax, row.inhibitor))
        place = (row.cells, row.variant, row.part, row.layer, row.bits, row.n, row.d)
        lines.append([*map(str, place), name, *values, f"{row.ratio:.2f}"])
    columns = ["cells", "variant", "part", "layer", "bits", "n", "d", "", "softmax", "inhibitor", "ratio"]
    return Table("On standard cells, softmax over inhibitor", columns, lines)
