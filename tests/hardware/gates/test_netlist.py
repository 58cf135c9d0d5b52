from __future__ import annotations

import numpy as np
import pytest

from inhibitor_transformers.hardware.gates.bits import unpack
from inhibitor_transformers.hardware.gates.cells import CellLibrary
from inhibitor_transformers.hardware.gates.netlist import ONE, ZERO, Netlist, Provenance
from inhibitor_transformers.hardware.gates.templates import GATED
from tests.hardware.gates.designs import needs_library, random_netlist

pytestmark = needs_library
NOWHERE = Provenance("none", "by hand", "osu018")


def netlist(ports: dict, cells: list) -> Netlist:
    return Netlist.from_cells({"ports": ports, "cells": cells}, CellLibrary.load("osu018"), NOWHERE)


def test_gates_are_sorted_and_constants_are_nets() -> None:
    ports = {"x": ["input", [2]], "y": ["output", [4, "1", 2]]}
    cells = [["INVX1", {"A": 3, "Y": 4}], ["NAND2X1", {"A": 2, "B": "1", "Y": 3}]]
    circuit = netlist(ports, cells)
    assert [gate.cell.name for gate in circuit.gates] == ["NAND2X1", "INVX1"]
    assert circuit.levels.tolist() == [0, 1]
    assert circuit.ports["y"].nets[1] == ONE
    assert circuit.run({"x": np.array([0, 1, 1])})["y"].tolist() == [0b010, 0b111, 0b111]
    assert circuit.fanout[ZERO] == circuit.fanout[ONE] == 0
    assert circuit.fanout[circuit.ports["x"].nets[0]] == 1


def test_every_net_is_the_function_of_its_gate() -> None:
    circuit = random_netlist(CellLibrary.load("osu018"), 200, 8, 3)
    values = unpack(circuit.settle({"x": np.random.default_rng(0).integers(0, 256, 100)}), 100)
    for gate in circuit.gates:
        for j, net in enumerate(gate.outputs):
            case = np.zeros(100, dtype=int)
            for source in gate.inputs:
                case = 2 * case + values[source]
            assert np.array_equal(values[net], np.array(gate.cell.tables[j])[case])


def test_registers_hold_while_they_are_not_enabled() -> None:
    ports = {"clk": ["input", [2]], "d": ["input", [3]], "e": ["input", [4]], "q": ["output", [5]]}
    circuit = netlist(ports, [[GATED, {"C": 2, "D": 3, "E": 4, "Q": 5}]])
    d, e = np.array([1, 0, 0, 1, 1]), np.array([1, 0, 0, 1, 0])
    assert circuit.run({"d": d, "e": e})["q"].tolist() == [0, 1, 1, 1, 1]
    assert set(circuit.inputs) == {"d", "e"}


def test_a_counter_counts() -> None:
    """Its state depends on all cycles before."""
    ports = {"clk": ["input", [2]], "q": ["output", [3, 4]], "x": ["input", [9]]}
    cells = [
        ["DFFPOSX1", {"CLK": 2, "D": 5, "Q": 3}],
        ["DFFPOSX1", {"CLK": 2, "D": 6, "Q": 4}],
        ["INVX1", {"A": 3, "Y": 5}],
        ["XOR2X1", {"A": 3, "B": 4, "Y": 6}],
    ]
    assert netlist(ports, cells).run({"x": np.zeros(130, int)})["q"].tolist() == [i % 4 for i in range(130)]


def test_loops_clocks_and_kinds_are_checked() -> None:
    with pytest.raises(ValueError, match="loop"):
        netlist({"x": ["input", [2]]}, [["NAND2X1", {"A": 2, "B": 4, "Y": 3}], ["INVX1", {"A": 3, "Y": 4}]])
    with pytest.raises(ValueError, match="LATCH is no gate"):
        netlist({"x": ["input", [2]]}, [["LATCH", {"CLK": 2, "D": 2, "Q": 3}]])
    two = [["DFFPOSX1", {"CLK": clock, "D": 4, "Q": 5 + clock}] for clock in (2, 3)]
    with pytest.raises(ValueError, match="one clock"):
        netlist({"a": ["input", [2]], "b": ["input", [3]], "d": ["input", [4]]}, two)


def test_stimulus_is_checked() -> None:
    circuit = random_netlist(CellLibrary.load("osu018"), 5, 4, 0)
    with pytest.raises(ValueError, match="the circuit's inputs are x"):
        circuit.run({"z": np.array([1])})
    for stimulus in ({}, {"x": np.array([])}):
        with pytest.raises(ValueError, match="at least one"):
            circuit.run(stimulus)
