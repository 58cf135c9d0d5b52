"""Static timing: every net's load, slew and latest arrival, and every pin's delay, from the library's tables.

Operands come from registers and results go to registers: an input port is driven by a flip-flop of the library, whose
clock has the slew `CLOCK_SLEW`; an output port drives the data pin of one. Wires: `CellLibrary.wire_per_sink`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cells import Arc, Cell
from .netlist import ONE, ZERO, Group, Netlist

CLOCK_SLEW = 0.06  # ns, the smallest of the OSU libraries' tables; a tree of clock buffers is not modeled
RISE, FALL = 0, 1


@dataclass(frozen=True, eq=False)
class Timing:
    """ns and pF. Edges: RISE, FALL."""

    load: np.ndarray  # (nets,) pins and wires
    slew: np.ndarray  # (nets, 2) the slowest
    arrival: np.ndarray  # (nets, 2) the latest, after the clock's edge; −inf for constants
    delays: list[list[np.ndarray]]  # by group and output: (pins, 2, gates), the output's edges
    path: float  # the shortest period of the clock: from its edge through the logic, setup included

    @property
    def latest(self) -> float:
        """The latest arrival at any net."""
        return float(self.arrival.max())


def analyze(netlist: Netlist) -> Timing:
    """Times the netlist; slews and arrivals are propagated as a static timing analyzer does, the worst ones."""
    load = net_loads(netlist)
    slew = np.zeros((netlist.net_count, 2))
    arrival = np.full((netlist.net_count, 2), -np.inf)
    register = netlist.cell_library.flip_flop
    sources = np.concatenate([*(port.nets for port in netlist.inputs.values()), netlist.flip_flops.output])
    clock = np.full(len(sources), CLOCK_SLEW)
    for arc in register.outputs[0].arcs:
        for edge in (RISE, FALL):
            arrival[sources, edge] = arc.delay[edge](load[sources], clock)
            slew[sources, edge] = arc.slew[edge](load[sources], clock)
    delays = [_propagate(group, load, slew, arrival) for group in netlist.groups]
    return Timing(load, slew, arrival, delays, _path(netlist, register, slew, arrival))


def net_loads(netlist: Netlist) -> np.ndarray:
    """(nets,) pF: the pins that a net drives, and its wire."""
    load = netlist.fanout * netlist.cell_library.wire_per_sink
    for group in netlist.groups:
        for pin, nets in zip(group.cell.inputs, group.inputs, strict=True):
            np.add.at(load, nets, group.cell.capacitance[pin])
    register = netlist.cell_library.flip_flop
    assert register.flip_flop is not None
    data = register.capacitance[register.flip_flop.data]
    np.add.at(load, netlist.flip_flops.data, data)
    for port in netlist.outputs.values():
        np.add.at(load, port.nets, data + netlist.cell_library.wire_per_sink)
    load[[ZERO, ONE]] = 0
    return load


def input_edges(arc: Arc, edge: int) -> tuple[int, ...]:
    """Which edges of its input may cause this edge of the output."""
    return {"positive_unate": (edge,), "negative_unate": (1 - edge,)}.get(arc.sense, (RISE, FALL))


def _propagate(group: Group, load: np.ndarray, slew: np.ndarray, arrival: np.ndarray) -> list[np.ndarray]:
    """Slews and arrivals of a group's outputs, in place; each output's delays, (pins, 2, gates)."""
    delays = []
    for output, nets in zip(group.cell.outputs, group.outputs, strict=True):
        of_pins = np.zeros((len(group.inputs), 2, len(nets)))
        for arc in output.arcs:
            pin = group.cell.inputs.index(arc.pin)
            source = group.inputs[pin]
            for edge in (RISE, FALL):
                for before in input_edges(arc, edge):
                    delay = np.maximum(arc.delay[edge](load[nets], slew[source, before]), 0)
                    of_pins[pin, edge] = np.maximum(of_pins[pin, edge], delay)
                    arrival[nets, edge] = np.maximum(arrival[nets, edge], arrival[source, before] + delay)
                    moving = np.where(
                        arrival[source, before] > -np.inf, arc.slew[edge](load[nets], slew[source, before]), 0
                    )
                    slew[nets, edge] = np.maximum(slew[nets, edge], moving)
        delays.append(of_pins)
    return delays


def _path(netlist: Netlist, register: Cell, slew: np.ndarray, arrival: np.ndarray) -> float:
    ends = np.concatenate([*(port.nets for port in netlist.outputs.values()), netlist.flip_flops.data])
    if register.setup is None or not len(ends):
        return 0.0
    setup = np.stack(
        [table(np.full(len(ends), CLOCK_SLEW), slew[ends, edge]) for edge, table in enumerate(register.setup)]
    )
    return float(max(0.0, (arrival[ends] + setup.T).max()))
