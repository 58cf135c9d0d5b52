"""Energy, area and period of a netlist, from toggles that were simulated.

    a net's toggle         ½ C V², C the pins and the wire that it drives
    a gate's output        and the cell's internal energy by load and slew, the mean of a rise and a fall; of several
                           inputs that may have caused it, each counts as often as it toggles
    a flip-flop            each cycle its clock pin's C V² and internal energy, unless its clock is gated; for each
                           toggle of data and of output their internal energies
    a clock gate           a flip-flop and an AND, for at most `GATED_TOGETHER` flip-flops of one enable; a latch would
                           do, and takes 30 % less, but OSU's libraries do not say its area

Left out: clock buffers, and wires beyond a constant per sink. Both sides of a comparison leave out the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .bits import unpack
from .cells import Cell, CellLibrary, Power
from .netlist import ONE, Group, Netlist
from .simulate import Activity
from .timing import CLOCK_SLEW, FALL, RISE, Timing

GATED_TOGETHER = 32
PICO = 1e-12


@dataclass(frozen=True)
class Energy:
    """Joules per cycle."""

    switching: float  # nets that gates drive
    internal: float  # inside gates
    operands: float  # nets that ports and registers drive
    clock: float  # registers: clock pins and clock gates
    registers: float  # registers: data and outputs
    leakage: float  # over one period

    @property
    def logic(self) -> float:
        """Without registers: what an array of elements takes whose operands stand in front of it."""
        return self.switching + self.internal + self.operands + self.leakage

    @property
    def total(self) -> float:
        return float(sum(getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Area:
    """The library's unit: μm² in those of OSU."""

    logic: float
    registers: float  # clock gates included

    @property
    def total(self) -> float:
        return self.logic + self.registers


def measure_area(netlist: Netlist) -> Area:
    registers = (
        len(netlist.flip_flops.data) * netlist.cell_library.flip_flop.area if len(netlist.flip_flops.data) else 0.0
    )
    gates = int(_clock_gates(netlist)[1].sum())
    if gates:
        registers += gates * (netlist.cell_library.flip_flop.area + clock_gate(netlist.cell_library).area)
    return Area(sum(gate.cell.area for gate in netlist.gates), registers)


def measure_energy(
    netlist: Netlist, activity: Activity, timing: Timing, enabled: np.ndarray | None = None, period: float | None = None
) -> Energy:
    """The mean over the transitions of `activity`.

    enabled: (F,) the fraction of cycles in which each flip-flop is clocked, see `enabled_fraction`; None: all.
    period: ns, for the leakage; None: the netlist's path.
    """
    rate = activity.toggles / activity.cycles
    charge = PICO * netlist.cell_library.voltage**2 / 2 * rate * timing.load  # (nets,) joules
    outside = np.concatenate([*(port.nets for port in netlist.inputs.values()), netlist.flip_flops.output])
    operands = float(charge[outside].sum())
    internal = sum(_internal(group, rate, timing) for group in netlist.groups)
    leakage = sum(gate.cell.leakage for gate in netlist.gates)
    leakage += len(netlist.flip_flops.data) * netlist.cell_library.flip_flop.leakage
    return Energy(
        switching=float(charge.sum()) - operands,
        internal=PICO * internal,
        operands=operands,
        clock=PICO * _clock_energy(netlist, enabled),
        registers=PICO * _register_energy(netlist, rate, timing),
        leakage=leakage * 1e-9 * (timing.path if period is None else period) * 1e-9,
    )


def enabled_fraction(netlist: Netlist, values: np.ndarray, cycles: int) -> np.ndarray:
    """(F,) how often each flip-flop is clocked, from the settled values of all nets (`Netlist.settle`)."""
    fraction: np.ndarray = unpack(values[netlist.flip_flops.enable], cycles).mean(axis=1)
    return fraction


def clock_gate(library: CellLibrary) -> Cell:
    """The AND gate of a clock gate. Raises ValueError where the library has none."""
    found = [cell for cell in library.cells.values() if cell.tables == ((0, 0, 0, 1),)]
    if not found:
        raise ValueError(f"{library.path} has no AND gate of two inputs, which gates clocks")
    return min(found, key=lambda cell: cell.area)


def clock_pin_energy(library: CellLibrary) -> float:
    """pJ that one flip-flop takes per cycle in which its clock runs, whatever its data do."""
    register = library.flip_flop
    assert register.flip_flop is not None
    pin = register.flip_flop.clock
    capacitance = register.capacitance[pin] + library.wire_per_sink
    inside = register.input_powers.get(pin)
    slew = np.array([CLOCK_SLEW])
    energy = sum(float(table(np.zeros(1), slew)[0]) for table in inside.energy) if inside else 0.0
    return capacitance * library.voltage**2 + energy


def _internal(group: Group, rate: np.ndarray, timing: Timing) -> float:
    """pJ per cycle inside the gates of a group."""
    total = 0.0
    for output, nets in zip(group.cell.outputs, group.outputs, strict=True):
        pins = [group.cell.inputs.index(power.pin) for power in output.powers]
        if not pins:
            continue
        sources = group.inputs[pins]
        causes = rate[sources]  # (powers, gates)
        shares = causes / np.maximum(causes.sum(axis=0), 1e-300)
        energies = [
            _edge_mean(p, timing.load[nets], timing.slew[s]) for p, s in zip(output.powers, sources, strict=True)
        ]
        total += float((rate[nets] * (shares * energies).sum(axis=0)).sum())
    for pin, power in group.cell.input_powers.items():
        nets = group.inputs[group.cell.inputs.index(pin)]
        total += float((rate[nets] * _edge_mean(power, np.zeros(len(nets)), timing.slew[nets])).sum())
    return total


def _edge_mean(power: Power, load: np.ndarray, slew: np.ndarray) -> np.ndarray:
    """pJ of a toggle: the mean of a rise and a fall, at the mean slew of the input's edges."""
    mean = slew.mean(axis=-1)
    result: np.ndarray = (power.energy[RISE](load, mean) + power.energy[FALL](load, mean)) / 2
    return result


def _clock_gates(netlist: Netlist) -> tuple[np.ndarray, np.ndarray]:
    """The enables, and how many clock gates each needs."""
    enables, counts = np.unique(netlist.flip_flops.enable, return_counts=True)
    gated = enables != ONE
    return enables[gated], -(-counts[gated] // GATED_TOGETHER)


def _clock_energy(netlist: Netlist, enabled: np.ndarray | None) -> float:
    flip_flops = netlist.flip_flops
    if not len(flip_flops.data):
        return 0.0
    library = netlist.cell_library
    clocked = np.ones(len(flip_flops.data)) if enabled is None else np.where(flip_flops.enable == ONE, 1.0, enabled)
    energy = float(clocked.sum()) * clock_pin_energy(library)
    for enable, gates in zip(*_clock_gates(netlist), strict=True):
        gate = clock_gate(library)
        pin = gate.capacitance[gate.inputs[0]] + library.wire_per_sink
        always = clock_pin_energy(library) + pin * library.voltage**2
        members = flip_flops.enable == enable
        slew = np.full(1, CLOCK_SLEW)
        load = np.full(1, members.sum() / gates * clock_pin_load(library))
        passing = sum(float(table(load, slew)[0]) for table in gate.outputs[0].powers[0].energy)
        energy += float(gates) * (always + float(clocked[members].mean()) * passing)
    return energy


def clock_pin_load(library: CellLibrary) -> float:
    """pF of one flip-flop's clock pin and its wire."""
    register = library.flip_flop
    assert register.flip_flop is not None
    return register.capacitance[register.flip_flop.clock] + library.wire_per_sink


def _register_energy(netlist: Netlist, rate: np.ndarray, timing: Timing) -> float:
    """pJ per cycle in flip-flops for the toggles of their data and outputs."""
    flip_flops, register = netlist.flip_flops, netlist.cell_library.flip_flop
    if not len(flip_flops.data):
        return 0.0
    assert register.flip_flop is not None
    energy = 0.0
    for power in register.outputs[0].powers:
        slew = np.full((len(flip_flops.output), 2), CLOCK_SLEW)
        energy += float((rate[flip_flops.output] * _edge_mean(power, timing.load[flip_flops.output], slew)).sum())
    if of_data := register.input_powers.get(register.flip_flop.data):
        none = np.zeros(len(flip_flops.data))
        energy += float((rate[flip_flops.data] * _edge_mean(of_data, none, timing.slew[flip_flops.data])).sum())
    return energy
