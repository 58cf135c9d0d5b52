"""Standard cells: their functions, areas, capacitances, delays and energies, read from a Liberty file.

Units: ns, pF, V, pJ (= pF · V²), nW; areas in the library's own unit, which is μm² in those of Oklahoma State
University (OSU), the libraries that Debian packages.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...common.paths import expand_user
from .boolean import Function, compile_function, truth_table
from .liberty import Group, parse

# Truth tables of the sum and the carry of 2 and of 3 bits.
_ADDERS = {2: ((0, 1, 1, 0), (0, 0, 0, 1)), 3: ((0, 1, 1, 0, 1, 0, 0, 1), (0, 0, 0, 1, 0, 1, 1, 1))}
_SLEWS = ("input_net_transition", "input_transition_time", "related_pin_transition")


CELLS_VARIABLE = "INHIBITOR_CELLS"
_INSTALLED = "/usr/share/qflow/tech"


class Packaged(NamedTuple):
    """A library that Debian packages."""

    file: str
    package: str
    wire_per_sink: float

    @property
    def path(self) -> Path:
        """Below the folder that the environment names (a package that was unpacked), or where Debian installs it."""
        return expand_user(os.environ.get(CELLS_VARIABLE) or _INSTALLED) / self.file


PACKAGED = {
    # Wires: 0.2 fF/μm, and two heights of a row of cells (10 and 30 μm) for every pin that a net drives.
    "osu018": Packaged("osu018/osu018_stdcells.lib", "qflow-tech-osu018", 0.004),
    "osu050": Packaged("osu050/osu05_stdcells.lib", "qflow-tech-osu050", 0.012),
}


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers by load and input slew: linear between the points and beyond them, as static timing has it."""

    loads: np.ndarray  # (L,), one number where the load does not matter
    slews: np.ndarray  # (S,)
    values: np.ndarray  # (L, S)

    def __call__(self, load: np.ndarray, slew: np.ndarray) -> np.ndarray:
        row, down = _between(self.loads, load)
        column, right = _between(self.slews, slew)
        below, beside = min(1, len(self.loads) - 1), min(1, len(self.slews) - 1)
        upper = self.values[row, column] * (1 - right) + self.values[row, column + beside] * right
        lower = self.values[row + below, column] * (1 - right) + self.values[row + below, column + beside] * right
        result: np.ndarray = upper * (1 - down) + lower * down
        return result


@dataclass(frozen=True, eq=False)
class Arc:
    """From an input pin to an output: delays and slews of the output's rising and falling edges."""

    pin: str
    sense: str  # positive_unate, negative_unate, non_unate
    delay: tuple[Table, Table]  # rise, fall
    slew: tuple[Table, Table]


@dataclass(frozen=True, eq=False)
class Power:
    """Energy inside a cell for an edge of the pin that has it; `pin` is the input that made an output move."""

    pin: str
    energy: tuple[Table, Table]  # rise, fall


@dataclass(frozen=True, eq=False)
class Output:
    pin: str
    function: Function  # of the cell's inputs; for a flip-flop, of nothing
    arcs: list[Arc]
    powers: list[Power]
    max_load: float


class FlipFlop(NamedTuple):
    """Which pins are what: on the clock's rising edge `output` takes `data`."""

    clock: str
    data: str
    output: str


@dataclass(frozen=True, eq=False)
class Cell:
    name: str
    area: float
    leakage: float
    inputs: tuple[str, ...]
    capacitance: dict[str, float]
    outputs: tuple[Output, ...]
    input_powers: dict[str, Power]  # of input pins themselves, whatever the outputs do
    flip_flop: FlipFlop | None
    setup: tuple[Table, Table] | None  # by the clock's and the data's slew

    @cached_property
    def tables(self) -> tuple[tuple[int, ...], ...]:
        """The outputs' truth tables; none for a flip-flop."""
        gates = () if self.flip_flop else self.outputs
        return tuple(truth_table(output.function, len(self.inputs)) for output in gates)


@dataclass(frozen=True, eq=False)
class CellLibrary:
    """Cells by name: gates without memory, and flip-flops of one clock edge; nothing else is read."""

    name: str
    path: Path
    voltage: float
    wire_per_sink: float  # pF that a net's wire has for every pin that it drives
    cells: dict[str, Cell]

    @staticmethod
    def load(library: str | Path, wire_per_sink: float | None = None) -> CellLibrary:
        """osu018, osu050, or the path of a Liberty file. Raises ValueError where it is absent or unreadable.

        wire_per_sink: pF of wire for every pin that a net drives; None: the library's own, 0 for a path.
        """
        packaged = PACKAGED.get(str(library))
        path = packaged.path if packaged else expand_user(library)
        if not path.is_file():
            cure = (
                f"install Debian's package {packaged.package}, or unpack it and set {CELLS_VARIABLE}"
                if packaged
                else f"name one of {', '.join(PACKAGED)}"
            )
            raise ValueError(f"there is no cell library at {path}; {cure}")
        if wire_per_sink is None:
            wire_per_sink = packaged.wire_per_sink if packaged else 0.0
        return _library(parse(path.read_text(encoding="utf-8")), path, wire_per_sink)

    @cached_property
    def adders(self) -> dict[int, tuple[Cell, str, str]]:
        """By the number of bits that they add, 2 or 3: the cell, and its pins of the sum and the carry."""
        found = {}
        for count, (total, carry) in _ADDERS.items():
            for cell in self.cells.values():
                if len(cell.inputs) == count and set(cell.tables) == {total, carry}:
                    pins = [cell.outputs[cell.tables.index(table)].pin for table in (total, carry)]
                    found[count] = (cell, pins[0], pins[1])
        return found

    @cached_property
    def flip_flop(self) -> Cell:
        """The smallest flip-flop. Raises ValueError where there is none."""
        cells = [cell for cell in self.cells.values() if cell.flip_flop]
        if not cells:
            raise ValueError(f"{self.path} has no flip-flop of a rising clock edge without set and reset")
        return min(cells, key=lambda cell: cell.area)


def _library(group: Group, path: Path, wire_per_sink: float) -> CellLibrary:
    if (unit := group.text("time_unit")) != "1ns" or group.attributes.get("capacitive_load_unit") != ["1", "pf"]:
        raise ValueError(f"{path} measures time in {unit}; libraries in 1ns and 1pf are read")
    templates = {template.arguments[0]: template for template in group.groups if template.kind.endswith("_template")}
    reader = _Reader(templates)
    cells = {cell.name: cell for each in group.all("cell") if (cell := reader.cell(each))}
    return CellLibrary(group.arguments[0], path, group.number("nom_voltage"), wire_per_sink, cells)


class _Reader:
    """Reads cells, with the templates that say what the tables' axes are."""

    def __init__(self, templates: dict[str, Group]) -> None:
        self.templates = templates

    def cell(self, group: Group) -> Cell | None:
        """None for what is neither a gate nor a flip-flop: latches, pads, tri-state buffers, set and reset."""
        pins = {pin.arguments[0]: pin for pin in group.all("pin")}
        inputs = tuple(name for name, pin in pins.items() if pin.text("direction") == "input")
        outputs = {name: pin for name, pin in pins.items() if pin.text("direction") == "output"}
        flip_flop = self.flip_flop(group, tuple(outputs))
        known = all("function" in pin.attributes and "three_state" not in pin.attributes for pin in outputs.values())
        if not outputs or not known or (flip_flop is None and (group.first("ff") or group.first("latch"))):
            return None
        if len(inputs) + len(outputs) != len(pins) or group.text("dont_touch") == "true":
            return None
        setup = None
        if flip_flop:
            setup = next(
                self.pair(timing, "rise_constraint", "fall_constraint")
                for timing in pins[flip_flop.data].all("timing")
                if timing.text("timing_type") == "setup_rising"
            )
        return Cell(
            name=group.arguments[0],
            area=group.number("area"),
            leakage=group.number("cell_leakage_power"),
            inputs=inputs,
            capacitance={name: pins[name].number("capacitance") for name in inputs},
            outputs=tuple(self.output(pin, inputs, flip_flop) for pin in outputs.values()),
            input_powers={name: power for name in inputs for power in self.powers(pins[name])},
            flip_flop=flip_flop,
            setup=setup,
        )

    def flip_flop(self, group: Group, outputs: Sequence[str]) -> FlipFlop | None:
        memory = group.first("ff")
        simple = memory and {"clear", "preset"}.isdisjoint(memory.attributes) and len(outputs) == 1
        if not memory or not simple or not memory.text("clocked_on").isidentifier():
            return None
        return FlipFlop(memory.text("clocked_on"), memory.text("next_state"), outputs[0])

    def output(self, pin: Group, inputs: tuple[str, ...], flip_flop: FlipFlop | None) -> Output:
        arcs = [
            Arc(
                timing.text("related_pin"),
                timing.text("timing_sense", "non_unate"),
                self.pair(timing, "cell_rise", "cell_fall"),
                self.pair(timing, "rise_transition", "fall_transition"),
            )
            for timing in pin.all("timing")
        ]
        function = _remember if flip_flop else compile_function(pin.text("function"), inputs)
        return Output(pin.arguments[0], function, arcs, list(self.powers(pin)), pin.number("max_capacitance"))

    def powers(self, pin: Group) -> list[Power]:
        found = pin.all("internal_power")
        return [Power(each.text("related_pin"), self.pair(each, "rise_power", "fall_power")) for each in found]

    def pair(self, group: Group, rise: str, fall: str) -> tuple[Table, Table]:
        return self.table(group, rise), self.table(group, fall)

    def table(self, group: Group, kind: str) -> Table:
        table = group.first(kind)
        if table is None:
            raise ValueError(f"a group {group.kind} of the library has no {kind}")
        axes = [table.numbers(f"index_{i}") for i in (1, 2) if f"index_{i}" in table.attributes]
        values = table.numbers("values").reshape([len(axis) for axis in axes])
        by_load = self.templates[table.arguments[0]].text("variable_1") not in _SLEWS
        if len(axes) == 1:
            axes = [axes[0], np.zeros(1)] if by_load else [np.zeros(1), axes[0]]
            values = values.reshape(len(axes[0]), len(axes[1]))
        elif not by_load and kind.endswith(("power", "transition", "cell_rise", "cell_fall")):
            axes, values = axes[::-1], values.T
        return Table(axes[0], axes[1], values)


def _remember(*_: np.ndarray) -> np.ndarray:
    raise TypeError("a flip-flop's output is no function of its inputs")


def _between(points: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the points lies left of x, and how far x is from it to the next one (beyond the ends: < 0 or > 1)."""
    if len(points) == 1:
        return np.zeros(np.shape(x), dtype=np.intp), np.zeros(np.shape(x))
    left = np.clip(np.searchsorted(points, x, side="right") - 1, 0, len(points) - 2)
    return left, (x - points[left]) / (points[left + 1] - points[left])
