"""A complete dot-product head: rows of q held, keys streamed, streaming softmax, weighted sums of values, the control.

It has the inhibitor head's sequencer, lanes and registers. A query row is loaded once. Its keys come one a cycle; each
score becomes a probability relative to the running maximum, and is kept in the lane of its key. Then the block's values
come, all lanes of one feature a cycle. What is behind a score waits when the maximum moves within a block: for every
unit, one cycle in which the probabilities of the block are halved.

ℓ, the sum of probabilities, is the sum of a feature that is 1 in all lanes: it takes one cycle a block in the same
tree, and no adder of its own. `normalizer` divides by it behind the last block.

Memories are outside and read in the cycle that addresses them: q, k, v, masks, the sums of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from amaranth.hdl import Elaboratable, EnableInserter, Module, Mux, Shape, Signal, Value

from .head_size import HeadSize
from .multipliers import DotProduct, Form, Operand
from .registers import delayed, register
from .sequencer import Sequencer
from .softmax import Exponent, Probability
from .softmax_model import EXPONENT_BITS, LOWEST, SoftmaxFormat

KEY_DELAY = 3  # cycles between the last key of a block and its first feature


@dataclass(frozen=True)
class SoftmaxShape(HeadSize):
    """The size of a dot-product head; probabilities have as many bits as q, k and v."""

    @property
    def form(self) -> SoftmaxFormat:
        return SoftmaxFormat(self.bits, self.lanes)

    @property
    def accumulator_bits(self) -> int:
        return (self.keys * ((1 << self.bits) - 1) * self.form.top).bit_length() + 1


class Key(NamedTuple):
    """A key on its way: whether there is one, whether the query sees it, and its lane."""

    served: Value
    seen: Value
    lane: Value


class SoftmaxHead(Elaboratable):
    """Ports, besides `shift` (s), which is held:

    start, keys     begin a row that sees no key from `keys` on (in: while not busy; `keys` is held for the row)
    q0 …            the row, taken over with `load`
    k0 …            key `index`, taken over with `key` where it is visible; `mask`, read with `key`, says so
    halve           the key that is served now is served again
    v0 …            feature `feature` of the keys of block `block`, taken over with `value`; feature `values` is 1
    total           the sum of feature sum_feature up to this block, with sum_valid; it is A, or ℓ, with `complete` too
    addend          what `total` was one block earlier, read with sum_valid in all blocks but the first

    scores, outputs: how the two dot products are built.
    """

    def __init__(self, shape: SoftmaxShape, *, scores: Form = "booth", outputs: Form = "baugh_wooley") -> None:
        self.shape = shape
        form, bits = shape.form, shape.bits
        signed = Operand(bits, signed=True)
        self.sequencer = Sequencer(shape.lanes, shape.values + 1, shape.keys, buffered=False, key_delay=KEY_DELAY)
        self.dot = DotProduct(shape.features, signed, signed, scores, registers="operands")
        self.exponent = Exponent(form, len(self.dot.total))
        self.probability = Probability(form)
        self.sums = DotProduct(
            shape.lanes,
            Operand(bits, signed=False),
            signed,
            outputs,
            width=shape.accumulator_bits,
            registers="streamed",
            zero_gating=True,
        )
        self.mask = Signal()
        self.halve = Signal()
        self.addend = Signal.like(self.sums.addend)
        self.sum_feature = Signal.like(self.sequencer.feature)
        self.sum_valid = Signal()
        self.complete = Signal()

    def ports(self) -> dict[str, Signal]:
        control = self.sequencer
        ports = [control.start, control.keys, control.busy, control.load, control.key, control.value]
        ports += [control.lane, control.block, control.feature, self.mask, self.exponent.shift]
        ports += [self.halve, self.addend, self.sums.total, self.sum_feature, self.sum_valid, self.complete]
        words = {"q": self.dot.a, "k": self.dot.b, "v": self.sums.b}
        named = {f"{name}{i}": port for name, group in words.items() for i, port in enumerate(group)}
        return {port.name: port for port in ports} | named

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.probability = self.probability
        m.submodules.sums = self.sums
        before = Module()  # what waits while probabilities are halved
        before.submodules.sequencer = self.sequencer
        before.submodules.dot = self.dot
        before.submodules.exponent = self.exponent
        keys = self._read(before)
        m.submodules.before = EnableInserter(~self.halve)(before)
        maximum = self._track_maximum(m, keys[1].seen)
        self._keep(m, keys[1], keys[2])
        self._sum(m, maximum)
        return m

    def _read(self, m: Module) -> list[Key]:
        """The keys that were served one, two and three cycles ago.

        After one cycle there is the dot product, which gets a register; after two its probability; see `_keep`.
        """
        control, exponent = self.sequencer, self.exponent
        visible = Signal()
        m.d.comb += [
            visible.eq((control.index < control.keys) & self.mask),
            self.dot.load.eq(control.load),
            self.dot.enable.eq(control.key & visible),
            self.probability.score.eq(exponent.exponent),
        ]
        keys = [Key(control.key, control.key & visible, control.lane)]
        for _ in range(3):
            last = keys[-1]
            keys.append(Key(delayed(m, last.served), delayed(m, last.seen), register(m, last.lane, last.served)))
        m.d.comb += exponent.dot.eq(register(m, self.dot.total, keys[1].seen))
        return keys[1:]

    def _track_maximum(self, m: Module, seen: Value) -> Signal:
        """M: in front of the block's first key it moves at once, later by one a cycle."""
        control, probability = self.sequencer, self.probability
        maximum = Signal(Shape(EXPONENT_BITS, signed=True), init=LOWEST)
        exponent = probability.score[self.shape.form.fraction_bits :].as_signed()
        later = Signal()  # the block has a probability already
        m.d.comb += [
            probability.maximum.eq(maximum),
            self.halve.eq(seen & later & probability.exceeds),
        ]
        with m.If(control.load):
            m.d.sync += maximum.eq(LOWEST)
        with m.Elif(seen & probability.exceeds):
            m.d.sync += maximum.eq(Mux(later, maximum + 1, exponent))
        with m.If(control.value):
            m.d.sync += later.eq(0)
        with m.Elif(seen):
            m.d.sync += later.eq(1)
        return maximum

    def _keep(self, m: Module, current: Key, kept: Key) -> None:
        """The key's probability, one cycle later, in its lane: 0 where the key is not visible.

        It has a register of its own, since what glitches in front of it would do so in every lane.
        """
        bits = self.shape.bits
        p = Signal(bits, reset_less=True)
        with m.If(self.halve):
            m.d.sync += p.eq(p >> 1)
        with m.Elif(current.served):
            m.d.sync += p.eq(Mux(current.seen, self.probability.p, 0))
        for place, word in enumerate(self.sums.a):
            chosen, following = Signal(name=f"chosen{place}"), Signal(bits, name=f"following{place}")
            m.d.comb += [  # gates that stand still in all other lanes
                chosen.eq(kept.served & (kept.lane == place) & ~self.halve),
                following.eq(p & chosen.replicate(bits) | word >> 1 & self.halve.replicate(bits)),
                word.eq(register(m, following, chosen | self.halve)),
            ]

    def _sum(self, m: Module, maximum: Signal) -> None:
        """One cycle after a feature is served, its sum is there; what was added before is renormalized."""
        control, sums = self.sequencer, self.sums
        first, last, feature = (
            register(m, value, control.value) for value in (control.first, control.last, control.feature)
        )
        previous = register(m, maximum, control.key & (control.lane == 0))
        moved = Signal(EXPONENT_BITS)
        steps = len(self.addend).bit_length()
        m.d.comb += [
            moved.eq(maximum - previous),
            sums.enable.eq(control.value),
            self.sum_valid.eq(delayed(m, control.value)),
            self.complete.eq(last),
            self.sum_feature.eq(feature),
        ]
        with m.If(moved[steps:].any()):
            m.d.comb += sums.addend.eq(self.addend[-1].replicate(len(self.addend)).as_signed())
        with m.Else():
            m.d.comb += sums.addend.eq(self.addend >> moved[:steps])
        with m.If(first):
            m.d.comb += sums.addend.eq(0)
