"""The control that both heads share: which key, which block of keys and which feature is served in a cycle.

One query row after the other; keys come in blocks of as many as there are lanes.

    fused      load → per block: its keys, one a cycle → its features, one a cycle, over all keys of the block
    buffered   load → all keys → what the row needs as a whole (`row`, until `row_done`) → per block: its scores, one a
               cycle, from the buffer → its features

After the last key and the last score there are idle cycles, as many as the pipeline behind them is long.
"""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Elaboratable, Module, Signal

from .head_size import count_blocks


class Sequencer(Elaboratable):
    """Strobes and indices.

    Ports, in: start (while not busy, with `keys`, which holds for the row), keys (the row sees those before it),
    row_done. Out: busy; load (the first cycle of a row); key or score (that of `index` is served); value (`feature` of
    `block` is served); row; first and last (`block` is); index (its lowest bits are the lane).

    Args:
        lanes: a power of two.
        features: of values.
        keys: the most that a row may see.
        buffered: see above.
        key_delay, score_delay: idle cycles after the last key, and after the last score.
    """

    def __init__(
        self, lanes: int, features: int, keys: int, *, buffered: bool, key_delay: int, score_delay: int = 0
    ) -> None:
        if lanes < 2 or lanes & (lanes - 1):
            raise ValueError(f"lanes must be a power of two, got {lanes}")
        if features < 2:
            raise ValueError(f"values must have two features at least, got {features}")
        self.lanes, self.features, self.buffered = lanes, features, buffered
        self.key_delay, self.score_delay = key_delay, score_delay
        self.start = Signal()
        self.keys = Signal(range(keys + 1))
        self.row_done = Signal()
        self.busy = Signal()
        self.load = Signal()
        self.key = Signal()
        self.row = Signal()
        self.score = Signal()
        self.value = Signal()
        self.first = Signal()
        self.last = Signal()
        self.lane = Signal(range(lanes))
        self.block = Signal(range(max(count_blocks(keys, lanes), 2)))
        self.index = Cat(self.lane, self.block)
        self.feature = Signal(range(features))

    def cycles(self, keys: int, *, row: int = 0) -> int:
        """From `load` to the last value of a row that sees `keys` keys; row: cycles of `row`."""
        blocks = count_blocks(keys, self.lanes)
        if self.buffered:
            each = self.lanes + self.score_delay + self.features
            return 1 + max(keys, 1) + self.key_delay + row + blocks * each
        return 1 + blocks * (self.lanes + self.key_delay + self.features)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lane, block = self.lane, self.block
        after_keys = [f"after keys, {i}" for i in range(self.key_delay)] + ["row" if self.buffered else "values"]
        after_scores = [f"after scores, {i}" for i in range(self.score_delay)] + ["values"]
        with m.FSM() as states:
            with m.State("idle"):
                m.d.comb += self.load.eq(self.start)
                with m.If(self.start):
                    m.d.sync += [lane.eq(0), block.eq(0), self.feature.eq(0)]
                    m.next = "keys"
            with m.State("keys"):
                m.d.comb += self.key.eq(1)
                m.d.sync += lane.eq(lane + 1)
                if self.buffered:
                    with m.If(lane.all()):
                        m.d.sync += block.eq(block + 1)
                    with m.If(self.index + 1 >= self.keys):
                        m.d.sync += [lane.eq(0), block.eq(0)]
                        m.next = after_keys[0]
                else:
                    with m.If(lane.all()):
                        m.next = after_keys[0]
            if self.buffered:
                with m.State("row"):
                    m.d.comb += self.row.eq(1)
                    with m.If(self.row_done):
                        m.next = "scores"
                with m.State("scores"):
                    m.d.comb += self.score.eq(1)
                    m.d.sync += lane.eq(lane + 1)
                    with m.If(lane.all()):
                        m.next = after_scores[0]
            for state, following in (*pairwise(after_keys), *(pairwise(after_scores) if self.buffered else ())):
                with m.State(state):
                    m.next = following
            with m.State("values"):
                m.d.comb += self.value.eq(1)
                m.d.sync += self.feature.eq(self.feature + 1)
                with m.If(self.feature == self.features - 1):
                    m.d.sync += [self.feature.eq(0), block.eq(block + 1)]
                    m.next = "scores" if self.buffered else "keys"
                    with m.If(self.last):
                        m.next = "idle"
        m.d.comb += [
            self.busy.eq(~states.ongoing("idle")),
            self.first.eq(block == 0),
            self.last.eq((block + 1) * self.lanes >= self.keys),
        ]
        return m
