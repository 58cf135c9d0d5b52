"""A simulator with a queue of events, one cycle at a time: what the one of 64 cycles a word is compared with."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from inhibitor_transformers.hardware.gates.netlist import Netlist

PIN, EVALUATE, MATURE, MOVE = range(4)


class Output:
    """A gate's output: its inputs as they have arrived, its value, and the change that is on its way."""

    def __init__(self, place: int, function, inputs: tuple[int, ...], net: int, delay: np.ndarray) -> None:
        self.place, self.function, self.inputs, self.net = place, function, inputs, net
        later = delay.sum(axis=1) // 2
        self.later = (later - later.min()).tolist()
        self.delay = (int(delay[:, 1].min()), int(delay[:, 0].min()))  # of a fall, of a rise
        self.arrived: list[int] = []
        self.pending: tuple[int, int] | None = None  # when, and what

    def evaluate(self) -> int:
        return int(self.function(*np.array(self.arrived, dtype=np.uint64))) & 1


class EventQueue:
    """Inertial delays as Verilog defines them: a change is called off if its cause is gone before it happens.

    A cause that goes away at the very moment of the change still calls it off.
    """

    def __init__(self, netlist: Netlist, delays: list[list[np.ndarray]], moves: np.ndarray) -> None:
        """delays: steps, by group and output (pins, 2, gates); moves: steps (nets, 2), when sources rise and fall."""
        self.moves = moves
        self.outputs: list[Output] = []
        for group, of_group in zip(netlist.groups, delays, strict=True):
            for k in range(len(group.gates)):
                for output, nets, delay in zip(group.cell.outputs, group.outputs, of_group, strict=True):
                    inputs = tuple(group.inputs[:, k].tolist())
                    place = len(self.outputs)
                    self.outputs.append(Output(place, output.function, inputs, int(nets[k]), delay[:, :, k]))
        self.readers: dict[int, list[tuple[Output, int]]] = {}
        for output in self.outputs:
            for pin, net in enumerate(output.inputs):
                self.readers.setdefault(net, []).append((output, pin))

    def toggles(self, before: np.ndarray, after: dict[int, int]) -> np.ndarray:
        """(nets,) from the settled values `before` (nets,) until all is quiet; `after`: the sources' new values."""
        self.values = before.astype(np.int64).copy()
        self.count = np.zeros(len(before), dtype=np.int64)
        self.queue: list[tuple[int, int, int, int, int]] = []  # time, output's place, what, and two numbers for it
        for output in self.outputs:
            output.arrived = [int(before[net]) for net in output.inputs]
            output.pending = None
        for net, value in after.items():
            heappush(self.queue, (int(self.moves[net, 1 - value]), -1, MOVE, net, value))
        while self.queue:
            time, place, what, first, second = heappop(self.queue)
            if what == MOVE:
                self.change(first, second, time)
            else:
                self.handle(self.outputs[place], time, what, first, second)
        return self.count

    def handle(self, output: Output, time: int, what: int, first: int, second: int) -> None:
        if what == PIN:
            output.arrived[first] = second
            heappush(self.queue, (time, output.place, EVALUATE, 0, 0))  # after all pins that move now
        elif what == EVALUATE:
            wanted = output.evaluate()
            if wanted == self.values[output.net]:
                output.pending = None
            elif output.pending is None:
                output.pending = (time + output.delay[wanted], wanted)
                heappush(self.queue, (output.pending[0], output.place, MATURE, wanted, 0))
        elif output.pending == (time, first):
            output.pending = None
            self.change(output.net, first, time)

    def change(self, net: int, value: int, time: int) -> None:
        if self.values[net] != value:
            self.values[net] = value
            self.count[net] += 1
            for output, pin in self.readers.get(net, []):
                heappush(self.queue, (time + output.later[pin], output.place, PIN, pin, value))
