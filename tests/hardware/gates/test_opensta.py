"""Paths, and energies with measured toggles, against OpenSTA on the same netlists."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from inhibitor_transformers.hardware.gates import opensta
from inhibitor_transformers.hardware.gates.cells import CellLibrary
from inhibitor_transformers.hardware.gates.energy import measure_energy
from inhibitor_transformers.hardware.gates.netlist import Netlist
from inhibitor_transformers.hardware.gates.simulate import simulate
from inhibitor_transformers.hardware.gates.synthesize import Recipe
from inhibitor_transformers.hardware.gates.timing import Timing, analyze
from tests.hardware.gates.designs import (
    LIBRARIES,
    accumulator_stimulus,
    dot_stimulus,
    map_accumulator,
    map_dot,
    needs_library,
    needs_yosys,
)

pytestmark = [
    needs_yosys,
    needs_library,
    pytest.mark.skipif(not shutil.which("sta"), reason="needs Debian's package opensta"),
]
UNGATED = Recipe(gate_clocks=False)


def latest(netlist: Netlist, timing: Timing) -> float:
    ends = np.concatenate([*(port.nets for port in netlist.outputs.values()), netlist.flip_flops.data])
    return float(timing.arrival[ends].max())


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("adders", [True, False])
def test_combinational_cells(name: str, adders: bool) -> None:
    """Energies differ by the slews of rises and falls, and by causes: OpenSTA's here are equally frequent."""
    netlist = map_dot(4, 6, CellLibrary.load(name), Recipe(adders=adders))
    values, timing = netlist.settle(dot_stimulus(4, 6, 100)[0]), analyze(netlist)
    activity = simulate(netlist, values, 100, timing)
    energy, report = measure_energy(netlist, activity, timing), opensta.check(netlist)
    assert report.arrival == pytest.approx(latest(netlist, timing), rel=0.01)
    rates = np.array([[activity.toggles[net] for net in gate.outputs] for gate in netlist.gates], dtype=object)
    single = [place for place, gate in enumerate(netlist.gates) if len(gate.outputs) == 1]
    charge = sum(timing.load[netlist.gates[i].outputs[0]] * rates[i][0] for i in single) / activity.cycles
    toggles = np.array([rates[i][0] for i in single]) / activity.cycles
    assert report.switching[single] @ toggles == pytest.approx(
        charge * netlist.cell_library.voltage**2 / 2e12, rel=1e-3
    )
    assert report.logic(netlist, activity) == pytest.approx(energy.switching + energy.internal, rel=0.03)


@pytest.mark.parametrize("name", LIBRARIES)
def test_registers(name: str) -> None:
    netlist = map_accumulator(CellLibrary.load(name), UNGATED)
    values, timing = netlist.settle(accumulator_stimulus(100)), analyze(netlist)
    activity, report = simulate(netlist, values, 100, timing), opensta.check(netlist)
    assert report.arrival == pytest.approx(latest(netlist, timing), rel=0.01)
    energy = measure_energy(netlist, activity, timing)
    assert report.logic(netlist, activity) == pytest.approx(energy.switching + energy.internal, rel=0.03)

    # Each with a toggle of data and output: half a sum for the data, a sum for the output, two for the clock.
    register, none = netlist.cell_library.flip_flop, np.zeros(1)
    data = register.input_powers["D"].energy
    clock, output = register.input_powers["CLK"].energy, register.outputs[0].powers[0].energy
    for place in range(len(netlist.flip_flops.data)):
        slew = timing.slew[netlist.flip_flops.data[place]]
        expected = sum(data[edge](none, slew[edge : edge + 1]) for edge in (0, 1)) / 2
        load = timing.load[netlist.flip_flops.output[place : place + 1]]
        ideal = np.zeros(1)  # a clock without a tree has edges without a slew, when power is concerned
        expected += sum(table(load, ideal) for table in output) + 2 * sum(table(none, ideal) for table in clock)
        assert report.registers[place] == pytest.approx(float(expected[0]) * 1e-12, rel=0.02)


def test_gated_clocks_are_refused() -> None:
    netlist = map_accumulator(CellLibrary.load("osu018"))
    with pytest.raises(ValueError, match="gate_clocks=False"):
        opensta.check(netlist)


def test_without_opensta_it_says_what_to_install(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    netlist = map_dot(2, 3, CellLibrary.load("osu018"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="Debian's package opensta"):
        opensta.check(netlist)
