"""What happens at the ports of an inhibitor head, cycle by cycle: its model, and the stimulus for its netlist."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from .head import KEY_DELAY, SCORE_DELAY
from .inhibitor import Configuration, Flags, HeadShape, Integers, distances, inhibited_sums


class Schedule(NamedTuple):
    """What the sequencer serves, (cycles,) each; numbers count where their strobe is set."""

    row: Integers
    load: Flags
    key: Flags
    score: Flags
    value: Flags
    lane: Integers
    block: Integers
    feature: Integers


class Output(NamedTuple):
    """What a port puts out, (cycles,), where `strobe` is set; elsewhere it may be anything."""

    values: Integers
    strobe: Flags


def schedule(shape: HeadShape, keys: Integers) -> Schedule:
    """Rows one after the other, without a pause; keys: (rows,), how many each sees. Two idle cycles at the end."""
    columns: list[tuple[str, int, int, int, int]] = []  # strobe, row, lane, block, feature
    for row, count in enumerate(keys.tolist()):
        columns.append(("load", row, 0, 0, 0))
        if shape.centered:
            columns += [("key", row, j % shape.lanes, j // shape.lanes, 0) for j in range(max(count, 1))]
            columns += [("", row, 0, 0, 0)] * (KEY_DELAY[True] + shape.distance_bits)
        for block in range(shape.blocks(count)):
            columns += [("score" if shape.centered else "key", row, lane, block, 0) for lane in range(shape.lanes)]
            columns += [("", row, 0, block, 0)] * (SCORE_DELAY if shape.centered else KEY_DELAY[False])
            columns += [("value", row, 0, block, feature) for feature in range(shape.values)]
    columns += [("", len(keys) - 1, 0, 0, 0)] * 2
    names, rows, lanes, blocks, features = (np.array(column) for column in zip(*columns, strict=True))
    strobes = {name: names == name for name in ("load", "key", "score", "value")}
    return Schedule(row=rows, lane=lanes, block=blocks, feature=features, **strobes)


class Trace:
    """Rows q (n_q, F) over k (n_k, F) and v (n_k, d), integers.

    keys: (n_q,), how many keys each row sees, from the first one on; causal masks are such numbers. mask: (n_q, n_k)
    bool, which of them are visible; None: all.
    """

    def __init__(
        self,
        shape: HeadShape,
        configuration: Configuration,
        q: Integers,
        k: Integers,
        v: Integers,
        keys: Integers,
        mask: Flags | None = None,
    ) -> None:
        padding = ((0, -len(k) % shape.lanes), (0, 0))
        self.shape, self.configuration, self.keys = shape, configuration, keys
        self.q, self.k, self.v = q, np.pad(k, padding), np.pad(v, padding)
        self.mask = np.ones((len(q), len(self.k)), dtype=np.bool_)
        self.mask[:, : len(k)] &= True if mask is None else mask
        self.seen = self.mask & (np.arange(len(self.k)) < np.minimum(keys, len(k))[:, None])
        self.served = schedule(shape, keys)
        self.index = self.served.block * shape.lanes + self.served.lane
        self.asked = self.served.key | self.served.score
        self.visible = self.asked & self.seen[self.served.row, np.where(self.asked, self.index, 0)]

    @cached_property
    def distances(self) -> Integers:
        """(n_q, keys of all blocks), less Σq."""
        less: Integers = distances(self.q, self.k) - self.q.sum(-1, keepdims=True)
        return less

    @cached_property
    def sums(self) -> Integers:
        """(blocks, n_q, d): after each block; the last one is A."""
        z = self.configuration.scores(self.shape, distances(self.q, self.k), self.seen)
        starts = range(0, len(self.k), self.shape.lanes)
        blocks = (slice(start, start + self.shape.lanes) for start in starts)
        sums: Integers = np.stack([inhibited_sums(z[:, block], self.v[block]) for block in blocks]).cumsum(0)
        return sums

    def inputs(self) -> dict[str, Integers]:
        """Integers (cycles,) by port; what is read from a memory holds until the next reading."""
        served, shape = self.served, self.shape
        row = served.row[latest(served.load)]
        key = self.index[latest(served.key & self.visible)]
        asked = latest(self.asked)
        constant = np.ones(len(row), dtype=np.int64)
        inputs = {
            "start": served.load.astype(np.int64),
            "keys": self.keys[row],
            "mask": self.mask[row[asked], self.index[asked]].astype(np.int64),
            "negative": int(self.configuration.negative) * constant,
            "shift": (self.configuration.shift - shape.shift_range[0]) * constant,
            "bias": self.configuration.bias + (0 if shape.centered else self.q[row].sum(-1)) * constant,
            "key_sum": self.k[key].sum(-1),
            "addend": self._addend(),
        }
        inputs |= {f"q{f}": self.q[row, f] for f in range(shape.features)}
        inputs |= {f"k{f}": self.k[key, f] for f in range(shape.features)}
        words = self._value_words()
        inputs |= {f"v{lane}": words[:, lane] for lane in range(shape.lanes)}
        if shape.centered:
            scored = latest(served.score & self.visible)
            inputs["buffer_in"] = self.distances[served.row[scored], self.index[scored]]
        return inputs

    def outputs(self) -> dict[str, Output]:
        served = self.served
        before = np.maximum(np.arange(len(served.row)) - 1, 0)  # the cycle whose results these are
        row, block, feature = served.row[before], served.block[before], served.feature[before]
        always, summed = np.ones(len(row), dtype=np.bool_), later(served.value)
        outputs = {
            "load": (served.load, always),
            "key": (served.key, always),
            "value": (served.value, always),
            "lane": (served.lane, self.asked),
            "block": (served.block, self.asked | served.value),
            "feature": (served.feature, served.value),
            "sum_valid": (summed, always),
            "complete": ((block + 1) * self.shape.lanes >= self.keys[row], summed),
            "sum_feature": (feature, summed),
            "total": (self.sums[block, row, feature], summed),
        }
        if self.shape.centered:
            written = later(served.key & self.visible)
            outputs |= {
                "score": (served.score, always),
                "buffer_write": (written, always),
                "buffer_index": (self.index[before], written),
                "buffer_out": (self.distances[row, np.where(written, self.index[before], 0)], written),
            }
        return {name: Output(values.astype(np.int64), strobe) for name, (values, strobe) in outputs.items()}

    def memory_bits(self) -> dict[str, int]:
        """Bits read and written, by memory, in all."""
        served, shape = self.served, self.shape
        blocks = np.array([shape.blocks(count) for count in self.keys.tolist()])
        passed = int(2 * (blocks - 1).sum() * shape.values)  # sums that are written and read again
        bits = {
            "q": len(self.q) * (shape.bits * shape.features + (0 if shape.centered else shape.score_bits)),
            "k": int((served.key & self.visible).sum()) * (shape.bits * shape.features + shape.key_sum_bits),
            "v": int(served.value.sum()) * shape.bits * shape.lanes,
            "mask": int(self.asked.sum()),
            "sums": passed * shape.accumulator_bits,
            "output": len(self.q) * shape.values * shape.accumulator_bits,
        }
        if shape.centered:
            bits["buffer"] = int(self.visible.sum()) * shape.distance_bits  # once written, once read
        return bits

    def _value_words(self) -> Integers:
        """(cycles, lanes), a sign bit above the magnitude."""
        at = latest(self.served.value)
        words = np.abs(self.v) | (self.v < 0).astype(np.int64) << (self.shape.bits - 1)
        blocks: Integers = words.reshape(-1, self.shape.lanes, self.shape.values)
        return blocks[self.served.block[at], :, self.served.feature[at]]

    def _addend(self) -> Integers:
        served = self.served
        at = latest(later(served.value & (served.block > 0))) - 1
        block = np.maximum(served.block[at] - 1, 0)
        addend: Integers = self.sums[block, served.row[at], served.feature[at]]
        return addend


def latest(strobe: Flags) -> Integers:
    """(cycles,) the cycle in which the strobe was last set; before the first one, that one."""
    when: Integers = np.maximum.accumulate(np.where(strobe, np.arange(len(strobe)), -1))
    return np.where(when < 0, strobe.argmax(), when)


def later(strobe: Flags) -> Flags:
    return np.concatenate([[False], strobe[:-1]])


class Traced(Protocol):
    """A trace of either head."""

    def inputs(self) -> dict[str, Integers]: ...

    def outputs(self) -> dict[str, Output]: ...


def after_reset(trace: Traced) -> tuple[dict[str, Integers], dict[str, Output]]:
    """Inputs and outputs for a netlist: a cycle of reset (`rst`) before those of the trace.

    Without it control does not start: what state is 0 is the synthesizer's choice.
    """
    inputs = {name: np.concatenate([values[:1], values]) for name, values in trace.inputs().items()}
    outputs = {
        name: Output(np.concatenate([values[:1], values]), np.concatenate([[False], strobe]))
        for name, (values, strobe) in trace.outputs().items()
    }
    reset = np.zeros_like(next(iter(inputs.values())))
    reset[0] = 1
    return inputs | {"rst": reset}, outputs
