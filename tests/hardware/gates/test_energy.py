"""Energies of circuits that are small enough to add them up by hand; timing likewise."""

from __future__ import annotations

import numpy as np
import pytest

from inhibitor_transformers.hardware.gates.cells import CellLibrary, Table
from inhibitor_transformers.hardware.gates.energy import enabled_fraction, measure_area, measure_energy
from inhibitor_transformers.hardware.gates.netlist import Netlist, Provenance
from inhibitor_transformers.hardware.gates.simulate import simulate
from inhibitor_transformers.hardware.gates.synthesize import Recipe
from inhibitor_transformers.hardware.gates.templates import GATED
from inhibitor_transformers.hardware.gates.timing import CLOCK_SLEW, analyze
from tests.hardware.gates.designs import (
    accumulator_stimulus,
    dot_stimulus,
    map_accumulator,
    map_dot,
    needs_library,
    needs_yosys,
)

pytestmark = needs_library
TOGGLING = np.arange(11) % 2  # ten toggles in ten transitions


def netlist(ports: dict, cells: list) -> Netlist:
    library = CellLibrary.load("osu018", wire_per_sink=0.003)
    return Netlist.from_cells({"ports": ports, "cells": cells}, library, Provenance("none", "by hand", "osu018"))


def at(table: Table, load: float, slew: float) -> float:
    return float(table(np.array([load]), np.array([slew]))[0])


def test_an_inverter() -> None:
    circuit = netlist({"x": ["input", [2]], "y": ["output", [3]]}, [["INVX1", {"A": 2, "Y": 3}]])
    library, inverter = circuit.cell_library, circuit.cell_library.cells["INVX1"]
    register = library.flip_flop
    timing = analyze(circuit)
    x, y = circuit.ports["x"].nets[0], circuit.ports["y"].nets[0]
    load = inverter.capacitance["A"] + 0.003
    assert timing.load[x] == pytest.approx(load)
    assert timing.load[y] == pytest.approx(register.capacitance["D"] + 0.003)

    # The register in front of it, then the inverter, then the setup of the register behind it.
    start = [at(table, load, CLOCK_SLEW) for table in register.outputs[0].arcs[0].delay]
    slew = [at(table, load, CLOCK_SLEW) for table in register.outputs[0].arcs[0].slew]
    (arc,) = inverter.outputs[0].arcs
    end = [start[1 - edge] + at(arc.delay[edge], timing.load[y], slew[1 - edge]) for edge in (0, 1)]
    assert timing.arrival[y] == pytest.approx(end)
    assert register.setup is not None
    setup = [at(table, CLOCK_SLEW, timing.slew[y, edge]) for edge, table in enumerate(register.setup)]
    assert timing.path == pytest.approx(max(end[0] + setup[0], end[1] + setup[1]))

    values = circuit.settle({"x": TOGGLING})
    energy = measure_energy(circuit, simulate(circuit, values, 11, timing), timing)
    assert energy.switching == pytest.approx(1e-12 * 1.8**2 / 2 * timing.load[y])
    assert energy.operands == pytest.approx(1e-12 * 1.8**2 / 2 * load)
    (power,) = inverter.outputs[0].powers
    inside = [at(table, timing.load[y], sum(slew) / 2) for table in power.energy]
    assert energy.internal == pytest.approx(1e-12 * sum(inside) / 2)
    assert energy.leakage == pytest.approx(inverter.leakage * 1e-9 * timing.path * 1e-9)
    assert energy.clock == energy.registers == 0
    assert (
        energy.logic
        == energy.total
        == pytest.approx(energy.switching + energy.operands + energy.internal + energy.leakage)
    )
    assert measure_area(circuit).logic == measure_area(circuit).total == inverter.area


def test_of_several_causes_each_counts_as_often_as_it_toggles() -> None:
    ports = {"a": ["input", [2]], "b": ["input", [3]], "y": ["output", [4]]}
    circuit = netlist(ports, [["XOR2X1", {"A": 2, "B": 3, "Y": 4}]])
    timing, still = analyze(circuit), np.zeros(11, int)
    energies = {}
    for name, a, b in (("a", TOGGLING, still), ("b", still, TOGGLING), ("none", still, still)):
        values = circuit.settle({"a": a, "b": b})
        energies[name] = measure_energy(circuit, simulate(circuit, values, 11, timing), timing).internal
    for power in circuit.cell_library.cells["XOR2X1"].outputs[0].powers:
        slew = timing.slew[circuit.ports[power.pin.lower()].nets[0]].mean()
        load = timing.load[circuit.ports["y"].nets[0]]
        mean = sum(at(table, load, slew) for table in power.energy) / 2
        assert energies[power.pin.lower()] == pytest.approx(1e-12 * mean)
    assert energies["a"] != energies["b"]
    assert energies["none"] == 0


def register_energy(kind: str, enable: np.ndarray, count: int = 1) -> tuple[Netlist, object]:
    pins = {"C": 2, "E": 4} if kind == GATED else {"CLK": 2}
    bits = range(10, 10 + count)
    cells = [[kind, {**pins, "D": bit, "Q": bit + 100}] for bit in bits]
    ports = {"clk": ["input", [2]], "d": ["input", list(bits)], "q": ["output", [bit + 100 for bit in bits]]}
    circuit = netlist({**ports, "e": ["input", [4]]}, cells)
    timing = analyze(circuit)
    values = circuit.settle({"d": np.zeros(11, int), "e": enable})
    activity = simulate(circuit, values, 11, timing)
    return circuit, measure_energy(circuit, activity, timing, enabled_fraction(circuit, values, 11))


def test_a_register_takes_its_clock_even_if_nothing_changes() -> None:
    circuit, energy = register_energy("DFFPOSX1", np.ones(11, int))
    register = circuit.cell_library.flip_flop
    inside = sum(at(table, 0, CLOCK_SLEW) for table in register.input_powers["CLK"].energy)
    assert energy.clock == pytest.approx(1e-12 * ((register.capacitance["CLK"] + 0.003) * 1.8**2 + inside))
    assert energy.registers == 0
    assert measure_area(circuit).registers == register.area


def test_a_gated_clock_costs_its_gate_and_saves_the_rest() -> None:
    ungated = register_energy("DFFPOSX1", np.ones(11, int), 40)[1].clock
    never = register_energy(GATED, np.zeros(11, int), 40)[1].clock
    half = register_energy(GATED, np.arange(11) >= 6, 40)[1].clock
    always = register_energy(GATED, np.ones(11, int), 40)[1].clock
    assert 0 < never < ungated / 10
    assert ungated < always < ungated * 1.2
    assert half == pytest.approx(never + (always - never) * 5 / 11)
    circuit = register_energy(GATED, np.ones(11, int), 40)[0]
    library = circuit.cell_library
    two_gates = 2 * (library.flip_flop.area + library.cells["AND2X1"].area)  # 32 at most hang on one
    assert measure_area(circuit).registers == 40 * library.flip_flop.area + two_gates


@needs_yosys
def test_data_and_outputs_of_registers_take_energy_as_they_toggle() -> None:
    circuit = map_accumulator(CellLibrary.load("osu018"), Recipe(gate_clocks=False))
    timing, stimulus = analyze(circuit), accumulator_stimulus(100)
    values = circuit.settle(stimulus)
    moving = measure_energy(circuit, simulate(circuit, values, 100, timing), timing)
    values = circuit.settle({name: np.zeros(100, int) for name in stimulus})
    resting = measure_energy(circuit, simulate(circuit, values, 100, timing), timing)
    assert moving.registers > 0 == resting.registers
    assert moving.clock == resting.clock > 0
    assert resting.logic == pytest.approx(resting.leakage)


@needs_yosys
def test_adder_cells_take_less_energy_than_adders_of_gates() -> None:
    """What makes a multiplier strong: the same function, mapped in two ways."""
    library = CellLibrary.load("osu018")
    stimulus, _ = dot_stimulus(4, 8, 100)
    energies = []
    for adders in (True, False):
        circuit = map_dot(4, 8, library, Recipe(adders=adders))
        timing = analyze(circuit)
        energies.append(measure_energy(circuit, simulate(circuit, circuit.settle(stimulus), 100, timing), timing).logic)
    assert 2 < energies[1] / energies[0] < 4
