"""A mapped circuit: gates in the order of their evaluation, flip-flops, ports; and its exact values, cycle by cycle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .bits import from_bits, pack, to_bits, unpack
from .cells import Cell, CellLibrary
from .templates import GATED

ZERO, ONE = 0, 1
"""The nets of the two constants."""


class Provenance(NamedTuple):
    """What made a netlist."""

    yosys: str
    recipe: str
    library: str


class Port(NamedTuple):
    direction: str  # "input" or "output"
    nets: np.ndarray  # the lowest bit first


class Gate(NamedTuple):
    """A cell without memory; nets in the order of the cell's pins."""

    cell: Cell
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Group(NamedTuple):
    """Gates of one cell on one level, evaluated together."""

    cell: Cell
    gates: np.ndarray  # (K,) their places in `Netlist.gates`
    inputs: np.ndarray  # (pins, K) nets
    outputs: np.ndarray  # (outputs, K) nets


class FlipFlops(NamedTuple):
    """All of one kind and of one clock; nets, each (F,)."""

    data: np.ndarray
    output: np.ndarray
    enable: np.ndarray  # ONE where the clock is not gated


@dataclass(frozen=True, eq=False)
class Netlist:
    """Nets are numbered from 0; `gates` are sorted so that each follows those whose outputs it reads."""

    cell_library: CellLibrary
    provenance: Provenance
    net_count: int
    ports: dict[str, Port]
    gates: list[Gate]
    levels: np.ndarray  # (gates,) 0 for gates that read ports and flip-flops only
    flip_flops: FlipFlops
    clock: str | None  # the port; None where there are no flip-flops

    @staticmethod
    def from_cells(cells: dict, library: CellLibrary, provenance: Provenance) -> Netlist:
        """From {"ports": {name: [direction, bits]}, "cells": [[kind, {pin: bit}]]}, as `synthesize` keeps it.

        Raises ValueError for a combinational loop, a kind that the library lacks, and more than one clock.
        """
        return _Builder(library).build(cells, provenance)

    @cached_property
    def groups(self) -> list[Group]:
        """All gates, level by level."""
        places: dict[tuple[int, str], list[int]] = defaultdict(list)
        for place, gate in enumerate(self.gates):
            places[int(self.levels[place]), gate.cell.name].append(place)
        groups = []
        for key in sorted(places):
            members = [self.gates[place] for place in places[key]]
            inputs = np.array([gate.inputs for gate in members], dtype=np.intp).T
            outputs = np.array([gate.outputs for gate in members], dtype=np.intp).T
            groups.append(Group(members[0].cell, np.array(places[key]), inputs, outputs))
        return groups

    @cached_property
    def fanout(self) -> np.ndarray:
        """(nets,) how many pins of cells each net drives; those of output ports are none. Clock pins are left out."""
        count = np.zeros(self.net_count, dtype=np.int64)
        for group in self.groups:
            np.add.at(count, group.inputs, 1)
        np.add.at(count, self.flip_flops.data, 1)
        np.add.at(count, np.unique(self.flip_flops.enable), 1)  # of its clock gate
        count[[ZERO, ONE]] = 0
        return count

    @property
    def inputs(self) -> dict[str, Port]:
        """Input ports without the clock."""
        return {n: port for n, port in self.ports.items() if port.direction == "input" and n != self.clock}

    @property
    def outputs(self) -> dict[str, Port]:
        return {name: port for name, port in self.ports.items() if port.direction == "output"}

    def evaluate(self, values: np.ndarray) -> None:
        """Fill in what all gates put out, in place: uint64 (nets, words) with the inputs' and registers' values."""
        values[ZERO], values[ONE] = 0, ~np.uint64(0)
        for group in self.groups:
            pins = values[group.inputs]
            for output, nets in zip(group.cell.outputs, group.outputs, strict=True):
                values[nets] = output.function(*pins)

    def settle(self, stimulus: Mapping[str, np.ndarray]) -> np.ndarray:
        """Every net at the end of every cycle: uint64 (nets, words), 64 cycles a word, as `bits.pack` packs them.

        stimulus: integers (cycles,) by input port; ports left out are 0. Registers begin with 0, and take the values
        that their data have at the end of a cycle for the next one. Raises ValueError for ports that are none.
        """
        cycles = self._cycles(stimulus)
        values = np.zeros((self.net_count, -(-cycles // 64)), dtype=np.uint64)
        for name, integers in stimulus.items():
            port = self.inputs[name]
            values[port.nets] = pack(to_bits(integers, len(port.nets)))
        self.evaluate(values)
        # Every round is right for one cycle more, and for all of them if registers only delay.
        for _ in range(cycles if len(self.flip_flops.data) else 0):
            states = pack(self._states(values, cycles))
            if np.array_equal(states, values[self.flip_flops.output]):
                break
            values[self.flip_flops.output] = states
            self.evaluate(values)
        return values

    def run(self, stimulus: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the output ports carry at the end of every cycle: unsigned integers (cycles,); see `settle`."""
        cycles, values = self._cycles(stimulus), self.settle(stimulus)
        return {name: from_bits(unpack(values[port.nets], cycles)) for name, port in self.outputs.items()}

    def _cycles(self, stimulus: Mapping[str, np.ndarray]) -> int:
        if unknown := stimulus.keys() - self.inputs.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: the circuit's inputs are {', '.join(self.inputs)}")
        lengths = {len(integers) for integers in stimulus.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"every input has the same number of cycles, at least one; here: {sorted(lengths)}")
        return lengths.pop()

    def _states(self, values: np.ndarray, cycles: int) -> np.ndarray:
        """uint8 (F, cycles): what each register holds if its data and its enable are these."""
        data = unpack(values[self.flip_flops.data], cycles)
        enable = unpack(values[self.flip_flops.enable], cycles)
        # The last cycle, before each one, in which it took its data; 0: none, and cycle c is c + 1 here.
        taken = np.maximum.accumulate(np.where(enable, np.arange(1, cycles + 1), 0), axis=1)
        taken = np.concatenate([np.zeros((len(data), 1), dtype=taken.dtype), taken[:, :-1]], axis=1)
        with_start = np.concatenate([np.zeros((len(data), 1), dtype=np.uint8), data], axis=1)
        return np.take_along_axis(with_start, taken, axis=1)


class _Builder:
    """Numbers nets, sorts cells into gates and flip-flops, and gates into their order."""

    def __init__(self, library: CellLibrary) -> None:
        self.cell_library = library
        self.numbers: dict[int | str, int] = {"0": ZERO, "x": ZERO, "1": ONE}
        self.count = 2

    def net(self, bit: int | str | None) -> int:
        """The net of a bit; None: one of its own, which drives nothing."""
        if bit is None or bit not in self.numbers:
            number, self.count = self.count, self.count + 1
            if bit is None:
                return number
            self.numbers[bit] = number
        return self.numbers[bit]

    def build(self, cells: dict, provenance: Provenance) -> Netlist:
        ports = {
            name: Port(direction, np.array([self.net(bit) for bit in bits], dtype=np.intp))
            for name, (direction, bits) in cells["ports"].items()
        }
        gates: list[Gate] = []
        registers: list[tuple[int, int, int]] = []
        clocks: set[int] = set()
        for kind, pins in cells["cells"]:
            memory = self.cell_library.flip_flop.flip_flop
            assert memory is not None
            if kind == GATED:
                registers.append((self.net(pins["D"]), self.net(pins.get("Q")), self.net(pins["E"])))
                clocks.add(self.net(pins["C"]))
            elif kind == self.cell_library.flip_flop.name:
                registers.append((self.net(pins[memory.data]), self.net(pins.get(memory.output)), ONE))
                clocks.add(self.net(pins[memory.clock]))
            else:
                gates.append(self.gate(kind, pins))
        flip_flops = FlipFlops(*np.array(registers, dtype=np.intp).reshape(-1, 3).T)
        order, levels = _levels(gates, self.count)
        clock = _clock(ports, clocks)
        return Netlist(
            self.cell_library,
            provenance,
            self.count,
            ports,
            [gates[i] for i in order],
            levels[order],
            flip_flops,
            clock,
        )

    def gate(self, kind: str, pins: dict[str, int | str]) -> Gate:
        cell = self.cell_library.cells.get(kind)
        if cell is None or cell.flip_flop:
            raise ValueError(f"{kind} is no gate of the library {self.cell_library.name}")
        inputs = tuple(self.net(pins[pin]) for pin in cell.inputs)
        return Gate(cell, inputs, tuple(self.net(pins.get(output.pin)) for output in cell.outputs))


def _clock(ports: dict[str, Port], clocks: set[int]) -> str | None:
    """The port that clocks all flip-flops."""
    names = [name for name, port in ports.items() if port.direction == "input" and clocks <= set(port.nets.tolist())]
    if not clocks:
        return None
    if len(clocks) != 1 or not names:
        raise ValueError("a circuit has one clock, which is an input port of its own")
    return names[0]


def _levels(gates: list[Gate], nets: int) -> tuple[np.ndarray, np.ndarray]:
    """The order in which gates are evaluated, and each one's level, by its place in `gates`."""
    driver = np.full(nets, -1)
    for place, gate in enumerate(gates):
        driver[list(gate.outputs)] = place
    readers = defaultdict(list)
    waits = np.zeros(len(gates), dtype=np.int64)
    for place, gate in enumerate(gates):
        for net in gate.inputs:
            if driver[net] >= 0:
                readers[int(driver[net])].append(place)
                waits[place] += 1
    levels = np.zeros(len(gates), dtype=np.int64)
    ready = [place for place in range(len(gates)) if not waits[place]]
    for place in ready:  # grows while it is read
        for reader in readers[place]:
            levels[reader] = max(levels[reader], levels[place] + 1)
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    if len(ready) < len(gates):
        raise ValueError("the circuit has a combinational loop")
    return np.array(sorted(ready, key=lambda place: (levels[place], place)), dtype=np.intp), levels
