"""A complete inhibitor head: rows of q held, keys streamed, masks, the mean, inhibited sums, and the control.

A query row is loaded once. Its keys come one a cycle; each score is rescaled to z and kept in the lane of its key. Then
the block's values come, all lanes of one feature a cycle. Centered, scores wait in a buffer until their mean is known.

Memories are outside and read in the cycle that addresses them: q, k, v, masks, Σk, the buffer, the sums of a row.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Mux, Shape, Signal, Value

from .distance import Distance
from .inhibitor_model import InhibitorShape
from .mean import Mean
from .registered import Registered
from .registers import delayed, register
from .rescale import Rescale
from .rtlil import Circuit
from .sequencer import Sequencer
from .shrinkage import Shrinkage
from .trees import Columns

KEY_DELAY = {False: 2, True: 1}
"""Cycles between the last key and what follows it, by whether scores are centered."""
SCORE_DELAY = 1


class InhibitorHead(Elaboratable):
    """Ports, besides `negative` and `shift` of `inhibitor_model.Configuration`, which are held:

    start, keys     begin a row that sees no key from `keys` on (in: while not busy; `keys` is held for the row)
    q0 …, bias      the row, taken over with `load`; bias: that of the configuration, plus, not centered, Σq
    k0 …, key_sum   key `index`, taken over with `key` where it is visible; `mask`, read with `key` and `score`, says so
    v0 …            feature `feature` of the keys of block `block`, taken over with `value`
    buffer_out      centered: the distance of key buffer_index, less Σq, to be written with buffer_write
    buffer_in       centered: that of key `index`, read with `score`
    total           the sum of feature sum_feature up to this block, with sum_valid; it is A with `complete` as well
    addend          what `total` was one block earlier, read with sum_valid in all blocks but the first

    retimed: registers stand behind the lanes' own logic, not in front of it.
    """

    def __init__(self, shape: InhibitorShape, *, retimed: bool = True) -> None:
        self.shape = shape
        bits, lanes, score_bits = shape.bits, shape.lanes, shape.score_bits
        self.sequencer = Sequencer(
            lanes,
            shape.values,
            shape.keys,
            buffered=shape.centered,
            key_delay=KEY_DELAY[shape.centered],
            score_delay=SCORE_DELAY,
        )
        width = None if shape.centered else score_bits
        self.distance: Circuit = Distance(bits, shape.features, width=width, retimed=retimed)
        self.shrinkage: Circuit = Shrinkage(bits, lanes, width=shape.accumulator_bits, retimed=retimed)
        self.values = [f"v{lane}" for lane in range(lanes)]
        self.scores = [f"not_z{lane}" for lane in range(lanes)]
        q, k = ([f"{name}{feature}" for feature in range(shape.features)] for name in "qk")
        if not retimed:
            self.distance = Registered(self.distance, q if shape.centered else [*q, "bias"], [*k, "key_sum"])
            gates = dict(zip(self.values, self.scores, strict=True))
            self.shrinkage = Registered(self.shrinkage, [], self.values, gates)
        self.operands = [*q, *k, "key_sum"]
        self.rescale = Rescale(bits, score_bits, shape.shift_range)
        self.mean = Mean(shape.distance_bits, shape.keys) if shape.centered else None
        self.bias = Signal(Shape(score_bits, signed=True))
        self.mask = Signal()
        self.buffer_in = Signal(Shape(shape.distance_bits, signed=True))
        self.buffer_out = Signal.like(self.buffer_in)
        self.buffer_index = Signal(len(self.sequencer.index))
        self.buffer_write = Signal()
        self.addend = Signal(Shape(shape.accumulator_bits, signed=True))
        self.sum_feature = Signal.like(self.sequencer.feature)
        self.sum_valid = Signal()
        self.complete = Signal()

    def ports(self) -> dict[str, Signal]:
        control, distance, shrinkage = self.sequencer, self.distance.ports(), self.shrinkage.ports()
        ports = [control.start, control.keys, control.busy, control.load, control.key, control.value]
        ports += [control.lane, control.block, control.feature, self.mask, self.rescale.negative, self.rescale.shift]
        ports += [self.bias, self.addend, self.sum_feature, self.sum_valid, self.complete]
        if self.shape.centered:
            ports += [control.score, self.buffer_in, self.buffer_out, self.buffer_index, self.buffer_write]
        words = {name: distance[name] for name in self.operands} | {name: shrinkage[name] for name in self.values}
        return {port.name: port for port in ports} | words | {"total": shrinkage["total"]}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = control = self.sequencer
        m.submodules.distance = self.distance
        m.submodules.rescale = self.rescale
        m.submodules.shrinkage = self.shrinkage
        distance = self.distance.ports()
        visible = Signal()
        m.d.comb += [
            visible.eq((control.index < control.keys) & self.mask),
            distance["load"].eq(control.load),
            distance["enable"].eq(control.key & visible),
        ]
        if self.mean is None:
            m.d.comb += distance["bias"].eq(self.bias)
            self._score_fused(m, distance["total"], visible)
        else:
            m.submodules.mean = self.mean
            self._score_buffered(m, self.mean, distance["total"], visible)
        self._sum(m)
        return m

    def _score_fused(self, m: Module, total: Signal, visible: Value) -> None:
        """A key's total is there one cycle after it is served, and gets a register; one cycle later it is rescaled."""
        key, seen = [self.sequencer.key], [visible]
        lane: Value = self.sequencer.lane
        for _ in range(2):
            lane = register(m, lane, key[-1])
            key.append(delayed(m, key[-1]))
            seen.append(delayed(m, key[-2] & seen[-1]))
        m.d.comb += self.rescale.score.eq(register(m, total, seen[1]))
        self._keep(m, self._inverted_score(seen[2]), key[2], lane)

    def _score_buffered(self, m: Module, mean: Mean, total: Signal, visible: Value) -> None:
        """A key's total is written one cycle after it is served; a score is rescaled in the cycle that reads it.

        What becomes of it has a register, since what glitches in front of that would do so in every lane.
        """
        control = self.sequencer
        cycle = Signal(range(mean.cycles))
        m.d.sync += cycle.eq(Mux(control.row, cycle + 1, 0))
        columns = Columns(self.shape.score_bits)
        columns.add(self.buffer_in)
        columns.subtract(mean.mean)
        columns.add(self.bias)
        m.d.comb += [
            self.buffer_out.eq(total),
            self.buffer_write.eq(delayed(m, control.key & visible)),
            self.buffer_index.eq(register(m, control.index, control.key & visible)),
            mean.clear.eq(control.load),
            mean.x.eq(total),
            mean.add.eq(self.buffer_write),
            mean.divide.eq(control.row),
            control.row_done.eq(cycle == mean.cycles - 1),
            self.rescale.score.eq(columns.reduce(m).as_signed()),
        ]
        not_z = register(m, self._inverted_score(visible), control.score)
        self._keep(m, not_z, delayed(m, control.score), register(m, control.lane, control.score))

    def _inverted_score(self, visible: Value) -> Value:
        """Where a key is not visible its z is the largest, which lets nothing pass."""
        return self.rescale.not_z & visible.replicate(len(self.rescale.not_z))

    def _keep(self, m: Module, not_z: Value, enable: Value, lane: Value) -> None:
        for place, name in enumerate(self.scores):
            chosen = Signal(name=f"chosen{place}")
            m.d.comb += [
                chosen.eq(enable & (lane == place)),
                self.shrinkage.ports()[name].eq(register(m, not_z, chosen)),
            ]

    def _sum(self, m: Module) -> None:
        """One cycle after a feature is served, its sum is there."""
        control, shrinkage = self.sequencer, self.shrinkage.ports()
        first, last, feature = (
            register(m, value, control.value) for value in (control.first, control.last, control.feature)
        )
        m.d.comb += [
            shrinkage["enable"].eq(control.value),
            shrinkage["addend"].eq(Mux(first, 0, self.addend)),
            self.sum_valid.eq(delayed(m, control.value)),
            self.complete.eq(last),
            self.sum_feature.eq(feature),
        ]
