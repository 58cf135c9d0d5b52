"""What happens at the ports of an inhibitor head, cycle by cycle: its model, and the stimulus for its netlist."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from .head_size import Flags, Integers
from .inhibitor_head import KEY_DELAY, SCORE_DELAY
from .inhibitor_model import Configuration, InhibitorShape, distances, inhibited_sums
from .trace import HeadTrace, Output, Slot, flags, later, latest


class InhibitorTrace(HeadTrace):
    """Of `InhibitorHead`; arguments as `HeadTrace`, q and k unsigned."""

    def __init__(
        self,
        shape: InhibitorShape,
        configuration: Configuration,
        q: Integers,
        k: Integers,
        v: Integers,
        keys: Integers,
        mask: Flags | None = None,
    ) -> None:
        self.shape, self.configuration = shape, configuration
        super().__init__(shape, q, k, v, keys, mask)

    @cached_property
    def scores(self) -> Integers:
        """z, (n_q, keys of all blocks)."""
        return self.configuration.scores(self.shape, distances(self.q, self.k), self.seen)

    @cached_property
    def sums(self) -> Integers:
        """(blocks, n_q, d): after each block; the last one is A."""
        starts = range(0, len(self.k), self.shape.lanes)
        blocks = (slice(start, start + self.shape.lanes) for start in starts)
        parts = [inhibited_sums(self.scores[:, block], self.v[block]) for block in blocks]
        sums: Integers = np.stack(parts).cumsum(0)
        return sums

    @cached_property
    def distances(self) -> Integers:
        """(n_q, keys of all blocks), less Σq."""
        less: Integers = distances(self.q, self.k) - self.q.sum(-1, keepdims=True)
        return less

    def slots(self, row: int, keys: int) -> list[Slot]:
        shape = self.shape
        slots = [Slot("load", row, 0)]
        if shape.centered:
            slots += [Slot("key", row, j // shape.lanes, j % shape.lanes) for j in range(max(keys, 1))]
            slots += [Slot("", row, 0)] * (KEY_DELAY[True] + shape.distance_bits)
        for block in range(shape.blocks(keys)):
            slots += [Slot("score" if shape.centered else "key", row, block, lane) for lane in range(shape.lanes)]
            slots += [Slot("", row, block)] * (SCORE_DELAY if shape.centered else KEY_DELAY[False])
            slots += [Slot("value", row, block, feature=feature) for feature in range(shape.values)]
        return slots

    def value_words(self) -> Integers:
        """A sign bit above the magnitude."""
        return np.abs(self.v) | (self.v < 0).astype(np.int64) << (self.shape.bits - 1)

    def inputs(self) -> dict[str, Integers]:
        served, shape, row = self.served, self.shape, self.served_row
        constant = np.ones(len(row), dtype=np.int64)
        inputs = super().inputs() | {
            "negative": int(self.configuration.negative) * constant,
            "shift": (self.configuration.shift - shape.shift_range[0]) * constant,
            "bias": self.configuration.bias + (0 if shape.centered else self.q[row].sum(-1)) * constant,
            "key_sum": self.k[self.served_key].sum(-1),
        }
        if shape.centered:
            scored = latest(served.score & self.visible)
            inputs["buffer_in"] = self.distances[served.row[scored], self.index[scored]]
        return inputs

    def outputs(self) -> dict[str, Output]:
        outputs, served, before = super().outputs(), self.served, self.before
        if self.shape.centered:
            written = later(served.key & self.visible)
            index = self.index[before]
            outputs |= {
                "score": flags(served.score, np.ones(len(before), dtype=np.bool_)),
                "buffer_write": flags(written, np.ones(len(before), dtype=np.bool_)),
                "buffer_index": Output(index, written),
                "buffer_out": Output(self.distances[served.row[before], np.where(written, index, 0)], written),
            }
        return outputs

    def memory_bits(self) -> dict[str, int]:
        served, shape = self.served, self.shape
        bits = {
            "q": len(self.q) * (shape.bits * shape.features + (0 if shape.centered else shape.score_bits)),
            "k": int((served.key & self.visible).sum()) * (shape.bits * shape.features + shape.key_sum_bits),
            "v": int(served.value.sum()) * shape.bits * shape.lanes,
            "mask": int(self.asked.sum()),
            "sums": self.passed_bits(shape.values, shape.accumulator_bits),
            "output": len(self.q) * shape.values * shape.accumulator_bits,
        }
        if shape.centered:
            bits["buffer"] = int(self.visible.sum()) * shape.distance_bits  # once written, once read
        return bits
