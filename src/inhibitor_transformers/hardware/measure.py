"""A circuit and what goes through it, cycle by cycle → area, period and energy, after its netlist was found exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .circuits.rtlil import Circuit, to_rtlil
from .circuits.trace import Output
from .gates.bits import from_bits, to_bits, unpack
from .gates.cells import CellLibrary
from .gates.energy import Area, Energy, enabled_fraction, measure_area, measure_energy
from .gates.netlist import Netlist, Provenance
from .gates.simulate import simulate
from .gates.synthesize import RECIPES, Recipe, synthesize
from .gates.timing import analyze


@dataclass(frozen=True)
class Stream:
    """Integers at ports, (cycles,) each: what goes in, and what the circuit's model says comes out."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, Output]


@dataclass(frozen=True)
class Measurement:
    """Of a netlist; energies are means over the stream's cycles."""

    area: Area  # μm²
    path: float  # ns
    energy: Energy  # J per cycle
    glitches: float  # fraction of the toggles
    cycles: int
    gates: int
    flip_flops: int
    provenance: Provenance

    @property
    def cost(self) -> float:
        """By which the best of several is chosen, for both sides alike."""
        return self.energy.total * self.area.total


def measure(
    circuit: Circuit,
    stream: Stream,
    library: CellLibrary,
    recipes: Sequence[Recipe] = RECIPES,
    period: float | None = None,
) -> Measurement:
    """The best of the recipes' netlists. period: ns, for leakage; None: each netlist's own path.

    Raises ValueError if a netlist's outputs are not those of the model, bit by bit.
    """
    text = to_rtlil(circuit)
    netlists = (synthesize(text, "top", library, recipe) for recipe in recipes)
    return best(measure_netlist(netlist, stream, period) for netlist in netlists)


def best(measurements: Iterable[Measurement]) -> Measurement:
    """The least energy × area."""
    return min(measurements, key=lambda measurement: measurement.cost)


def measure_netlist(netlist: Netlist, stream: Stream, period: float | None = None) -> Measurement:
    """Of one netlist; see `measure`."""
    cycles = len(next(iter(stream.inputs.values())))
    values = netlist.settle(stream.inputs)
    require_exact(netlist, values, stream)
    timing = analyze(netlist)
    activity = simulate(netlist, values, cycles, timing)
    enabled = enabled_fraction(netlist, values, cycles)
    return Measurement(
        area=measure_area(netlist),
        path=timing.path,
        energy=measure_energy(netlist, activity, timing, enabled, period),
        glitches=activity.glitches,
        cycles=activity.cycles,
        gates=len(netlist.gates),
        flip_flops=len(netlist.flip_flops.data),
        provenance=netlist.provenance,
    )


def require_exact(netlist: Netlist, values: np.ndarray, stream: Stream) -> None:
    """Raise ValueError unless the netlist's outputs are the model's, modulo their width, where they count."""
    cycles = len(next(iter(stream.inputs.values())))
    for name, (expected, strobe) in stream.outputs.items():
        nets = netlist.outputs[name].nets
        found = from_bits(unpack(values[nets], cycles))
        wrong = strobe & (found != from_bits(to_bits(expected, len(nets))))
        if wrong.any():
            cycle = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"the netlist ({netlist.provenance.recipe}) is wrong: {name} is {found[cycle]} in cycle {cycle}, the "
                f"model says {expected[cycle]}"
            )
