"""What happens at the ports of a dot-product head, cycle by cycle: its model, and the stimulus for its netlist."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from .softmax_head import KEY_DELAY, SoftmaxShape
from .softmax_model import LOWEST, Booleans, Chunk, Integers, attend_chunks
from .trace import Output, later, latest

HALVING = 2  # cycles after a key is served in which probabilities are halved for it


class SoftmaxSchedule(NamedTuple):
    """What the sequencer serves, (cycles,) each; numbers count where their strobe is set."""

    row: Integers
    load: Booleans
    key: Booleans
    value: Booleans
    lane: Integers
    block: Integers
    feature: Integers
    halve: Booleans


class SoftmaxTrace:
    """Rows q (n_q, F) over k (n_k, F) and v (n_k, d), integers; shift: s.

    keys: (n_q,), how many keys each row sees, from the first one on; causal masks are such numbers. mask: (n_q, n_k)
    bool, which of them are visible; None: all.
    """

    def __init__(
        self,
        shape: SoftmaxShape,
        shift: int,
        q: Integers,
        k: Integers,
        v: Integers,
        keys: Integers,
        mask: Booleans | None = None,
    ) -> None:
        padding = ((0, -len(k) % shape.lanes), (0, 0))
        self.shape, self.shift, self.keys = shape, shift, keys
        self.q, self.k, self.v = q, np.pad(k, padding), np.pad(v, ((0, -len(v) % shape.lanes), (0, 1)))
        self.v[:, -1] = 1
        self.mask = np.ones((len(q), len(self.k)), dtype=np.bool_)
        self.mask[:, : len(k)] &= True if mask is None else mask
        self.seen = self.mask & (np.arange(len(self.k)) < np.minimum(keys, len(k))[:, None])
        self.served = self._schedule()
        self.index = self.served.block * shape.lanes + self.served.lane
        self.visible = self.served.key & self.seen[self.served.row, np.where(self.served.key, self.index, 0)]

    @cached_property
    def chunks(self) -> list[Chunk]:
        """By block; A has ℓ as its last feature."""
        return list(attend_chunks(self.q, self.k, self.v, self.seen, np.array(self.shift), self.shape.form))

    @cached_property
    def sums(self) -> Integers:
        """(blocks, n_q, d + 1): after each block; the last one is A, and ℓ."""
        return np.stack([chunk.outputs for chunk in self.chunks])

    def inputs(self) -> dict[str, Integers]:
        """Integers (cycles,) by port; what is read from a memory holds until the next reading."""
        served, shape = self.served, self.shape
        row = served.row[latest(served.load)]
        key = self.index[latest(self.visible)]
        asked = latest(served.key)
        at = latest(served.value)
        values = self.v.reshape(-1, shape.lanes, shape.values + 1)[served.block[at], :, served.feature[at]]
        inputs = {
            "start": served.load.astype(np.int64),
            "keys": self.keys[row],
            "mask": self.mask[row[asked], self.index[asked]].astype(np.int64),
            "shift": np.full(len(row), self.shift),
            "addend": self._addend(),
        }
        inputs |= {f"q{f}": self.q[row, f] for f in range(shape.features)}
        inputs |= {f"k{f}": self.k[key, f] for f in range(shape.features)}
        return inputs | {f"v{lane}": values[:, lane] for lane in range(shape.lanes)}

    def outputs(self) -> dict[str, Output]:
        served = self.served
        before = np.maximum(np.arange(len(served.row)) - 1, 0)  # the cycle whose results these are
        row, block, feature = served.row[before], served.block[before], served.feature[before]
        always, summed = np.ones(len(row), dtype=np.bool_), later(served.value)
        outputs = {
            "load": (served.load, always),
            "key": (served.key, always),
            "value": (served.value, always),
            "halve": (served.halve, always),
            "lane": (served.lane, served.key),
            "block": (served.block, served.key | served.value),
            "feature": (served.feature, served.value),
            "sum_valid": (summed, always),
            "complete": ((block + 1) * self.shape.lanes >= self.keys[row], summed),
            "sum_feature": (feature, summed),
            "total": (self.sums[block, row, feature], summed),
        }
        return {name: Output(values.astype(np.int64), strobe) for name, (values, strobe) in outputs.items()}

    def memory_bits(self) -> dict[str, int]:
        """Bits read and written, by memory, in all. What is read for a feature of ones is not counted."""
        served, shape = self.served, self.shape
        blocks = np.array([shape.blocks(count) for count in self.keys.tolist()])
        passed = int(2 * (blocks - 1).sum() * (shape.values + 1))  # sums that are written and read again
        return {
            "q": len(self.q) * shape.bits * shape.features,
            "k": int((self.visible & ~served.halve).sum()) * shape.bits * shape.features,
            "v": int((served.value & (served.feature < shape.values)).sum()) * shape.bits * shape.lanes,
            "mask": int((served.key & ~served.halve).sum()),
            "sums": passed * shape.accumulator_bits,
            "output": len(self.q) * (shape.values + 1) * shape.accumulator_bits,
        }

    def _schedule(self) -> SoftmaxSchedule:
        """Rows one after the other, without a pause. Two idle cycles at the end."""
        lanes = self.shape.lanes
        columns: list[tuple[str, int, int, int, int, bool]] = []  # strobe, row, lane, block, feature, halve
        for row, count in enumerate(self.keys.tolist()):
            columns.append(("load", row, 0, 0, 0, False))
            for block in range(self.shape.blocks(count)):
                slots = [("key", lane) for lane in range(lanes)] + [("", 0)] * KEY_DELAY
                halvings = [0] * HALVING + self._halvings(row, block).tolist() + [0] * (KEY_DELAY - HALVING)
                for (strobe, lane), more in zip(slots, halvings, strict=True):
                    columns += [(strobe, row, lane, block, 0, True)] * more + [(strobe, row, lane, block, 0, False)]
                columns += [("value", row, 0, block, f, False) for f in range(self.shape.values + 1)]
        columns += [("", len(self.keys) - 1, 0, 0, 0, False)] * 2
        strobes, rows, lane_numbers, blocks, features, halve = (np.array(c) for c in zip(*columns, strict=True))
        load, key, value = (strobes == name for name in ("load", "key", "value"))
        return SoftmaxSchedule(rows, load, key, value, lane_numbers, blocks, features, halve)

    def _halvings(self, row: int, block: int) -> Integers:
        """(lanes,) how often probabilities are halved for each key of a block: not for the first one that is seen."""
        running = self.chunks[block].running[row]
        seen = self.seen[row, block * self.shape.lanes :][: self.shape.lanes]
        moves = np.diff(running, prepend=LOWEST)
        moves[: seen.argmax() + 1] = 0
        return moves

    def _addend(self) -> Integers:
        served = self.served
        at = latest(later(served.value & (served.block > 0))) - 1
        block = np.maximum(served.block[at] - 1, 0)
        addend: Integers = self.sums[block, served.row[at], served.feature[at]]
        return addend
