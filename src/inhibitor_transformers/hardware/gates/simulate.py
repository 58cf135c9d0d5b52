"""Counts how often every net toggles, glitches included, when a netlist goes from one cycle's values to the next.

Time runs in steps. An output follows the function of its inputs, each as late as its pin's delay is beyond the fastest
pin's; it rises (falls) when that function has been 1 (0) for its rise (fall) delay without a break. So a pulse no
longer than the delay is dropped, which is what Verilog calls inertial. Registers bound the logic, so cycles do not
depend on each other: a waveform holds 64 of them in a word, gates are visited once in their order, and only the time in
which a net moves is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .bits import pack, unpack
from .cells import Output
from .netlist import Netlist
from .timing import FALL, RISE, Timing

STEP = 0.01  # ns
SPAN = 1024  # cycles that are simulated at once: a matter of memory


class Waveform(NamedTuple):
    """When a net moves: its values from the step `start` on, uint64 (steps, words); the last row is final."""

    start: int
    rows: np.ndarray

    @property
    def end(self) -> int:
        return self.start + len(self.rows) - 1


@dataclass(frozen=True, eq=False)
class Activity:
    """Toggles per net, (nets,), summed over `cycles` transitions."""

    cycles: int
    toggles: np.ndarray  # all
    settled: np.ndarray  # those that remain without glitches

    @property
    def glitches(self) -> float:
        """The fraction of all toggles that a circuit without delays would not have."""
        toggles = int(self.toggles.sum())
        return 1 - int(self.settled.sum()) / toggles if toggles else 0.0


def simulate(
    netlist: Netlist, values: np.ndarray, cycles: int, timing: Timing, step: float = STEP, inertia: float = 1.0
) -> Activity:
    """Toggles on the way from each cycle's values to the next one's; the first cycle only starts them.

    values: every net at the end of every cycle, as `Netlist.settle` gives them.
    step: ns. inertia: pulses no longer than this fraction of a delay are dropped; 0: none are.
    Raises ValueError for a single cycle.
    """
    if cycles < 2:
        raise ValueError("toggles are counted between cycles, so there are at least two")
    bits = unpack(values, cycles)
    toggles = np.zeros(netlist.net_count, dtype=np.int64)
    settled = np.zeros(netlist.net_count, dtype=np.int64)
    for first in range(0, cycles - 1, SPAN):
        span = bits[:, first : first + SPAN + 1]
        fill = np.repeat(span[:, -1:], -(span.shape[1] - 1) % 64, axis=1)  # where nothing moves
        before = pack(np.concatenate([span[:, :-1], fill], axis=1))
        after = pack(np.concatenate([span[:, 1:], fill], axis=1))
        toggles += _toggles(_Simulation(netlist, before, after, inertia), timing, step)
        settled += np.bitwise_count(before ^ after).sum(axis=1, dtype=np.int64)
    return Activity(cycles - 1, toggles, settled)


def _toggles(simulation: _Simulation, timing: Timing, step: float) -> np.ndarray:
    """(nets,) of all gates, one after the other."""
    simulation.start(timing, step)
    for group, delays in zip(simulation.netlist.groups, timing.delays, strict=True):
        in_steps = [np.rint(delay / step).astype(np.int64) for delay in delays]
        for place in range(len(group.gates)):
            inputs = group.inputs[:, place].tolist()
            for output, nets, delay in zip(group.cell.outputs, group.outputs, in_steps, strict=True):
                simulation.output(output, inputs, int(nets[place]), delay[:, :, place])
            simulation.release(inputs)
    return simulation.toggles


class _Simulation:
    """Waveforms of the nets that are still read."""

    def __init__(self, netlist: Netlist, before: np.ndarray, after: np.ndarray, inertia: float) -> None:
        self.netlist, self.before, self.after, self.inertia = netlist, before, after, inertia
        self.waveforms: dict[int, Waveform] = {}
        self.toggles = np.zeros(netlist.net_count, dtype=np.int64)
        self.readers = np.zeros(netlist.net_count, dtype=np.int64)  # pins that are still to come
        for group in netlist.groups:
            np.add.at(self.readers, group.inputs, 1)

    def start(self, timing: Timing, step: float) -> None:
        """Ports and registers move once, when their flip-flop does."""
        sources = [*(port.nets for port in self.netlist.inputs.values()), self.netlist.flip_flops.output]
        for net in np.concatenate(sources).tolist():
            rise, fall = (round(timing.arrival[net, edge] / step) for edge in (RISE, FALL))
            before, after = self.before[net], self.after[net]
            first, last = min(rise, fall), max(rise, fall)
            halfway = before | after if rise < fall else before & after
            self.keep(net, first - 1, np.stack([before, *[halfway] * (last - first), after]))

    def output(self, output: Output, inputs: list[int], net: int, delay: np.ndarray) -> None:
        """The waveform of an output; delay: steps (pins, 2)."""
        moving = [self.waveforms.get(source) for source in inputs]
        if not any(moving):
            return
        later = delay.sum(axis=1) // 2  # of each pin, beyond the fastest one
        later = (later - later.min()).tolist()
        rise, fall = (int(delay[:, edge].min()) for edge in (RISE, FALL))
        common = int((1 - self.inertia) * min(rise, fall))  # of the delay, the part that drops no pulses
        starts, ends = zip(*((w.start + d, w.end + d) for w, d in zip(moving, later, strict=True) if w), strict=True)
        first, last = min(starts), max(ends)
        margin = max(rise, fall) - common
        pins = [
            _window(waveform, d, first, last, self.before[source]) if waveform else self.before[source]
            for waveform, d, source in zip(moving, later, inputs, strict=True)
        ]
        function = output.function(*pins)
        steady = len(function) + margin
        padded = np.empty((steady + margin, function.shape[1]), dtype=np.uint64)
        padded[:margin], padded[margin:steady], padded[steady:] = self.before[net], function, function[-1]
        self.keep(net, first - 1 - margin + common, _inertial(padded, rise - common, fall - common))

    def keep(self, net: int, start: int, rows: np.ndarray) -> None:
        """Count the toggles of a waveform whose first row is the value before; keep it from its first change on."""
        changes = rows[1:] ^ rows[:-1]
        when = np.flatnonzero(changes.any(axis=1))
        if not len(when):
            return
        first, last = int(when[0]), int(when[-1]) + 1
        self.toggles[net] = int(np.bitwise_count(changes[first:last]).sum(dtype=np.int64))
        if self.readers[net]:
            self.waveforms[net] = Waveform(start + first + 1, rows[first + 1 : last + 1])

    def release(self, nets: list[int]) -> None:
        for net in nets:
            self.readers[net] -= 1
            if not self.readers[net]:
                self.waveforms.pop(net, None)


def _window(waveform: Waveform, later: int, first: int, last: int, before: np.ndarray) -> np.ndarray:
    """The waveform, `later` steps delayed, from step `first` − 1 to `last`: (steps, words)."""
    rows = np.empty((last - first + 2, waveform.rows.shape[1]), dtype=np.uint64)
    start = waveform.start + later - first + 1
    end = start + len(waveform.rows)
    rows[:start], rows[start:end], rows[end:] = before, waveform.rows, waveform.rows[-1]
    return rows


def _inertial(function: np.ndarray, rise: int, fall: int) -> np.ndarray:
    """What follows `function` (steps, words) once it was 1 for more than `rise` steps, or 0 for more than `fall`."""
    state = _stable(function, rise)
    hold = ~_stable(~function, fall)
    shift = 1
    while shift < len(state):  # state[t] |= hold[t] & state[t - 1], for all t at once
        state[shift:] |= hold[shift:] & state[:-shift]
        hold[shift:] &= hold[:-shift].copy()
        if not hold[shift:].any():
            break
        shift *= 2
    return state


def _stable(rows: np.ndarray, steps: int) -> np.ndarray:
    """rows[t] & rows[t − 1] & … & rows[t − steps]; before the first row all rows are like it."""
    result, length = rows.copy(), 1
    while length <= steps:
        shift = min(length, steps + 1 - length)
        result[shift:] &= result[:-shift].copy()
        length += shift
    return result
