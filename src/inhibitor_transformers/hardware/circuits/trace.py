"""What happens at the ports of a head, cycle by cycle, where both kinds of heads have the same ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from .head_size import Flags, HeadSize, Integers


class Slot(NamedTuple):
    """What the sequencer serves in one cycle. strobe: "load", "key", "score", "value", or "" where it waits."""

    strobe: str
    row: int
    block: int
    lane: int = 0
    feature: int = 0
    halve: bool = False  # the key is served again in the next cycle


class Schedule:
    """What the sequencer serves, arrays (cycles,), and two idle cycles; numbers count where their strobe is set."""

    def __init__(self, slots: list[Slot]) -> None:
        idle = Slot("", slots[-1].row, 0)
        strobes, *numbers, halve = zip(*slots, idle, idle, strict=True)
        self.row, self.block, self.lane, self.feature = (np.array(number, dtype=np.int64) for number in numbers)
        self.halve = np.array(halve, dtype=np.bool_)
        self.load, self.key, self.score, self.value = (
            np.array([strobe == name for strobe in strobes]) for name in ("load", "key", "score", "value")
        )


class Output(NamedTuple):
    """What a port puts out, (cycles,), where `strobe` is set; elsewhere it may be anything."""

    values: Integers
    strobe: Flags


class HeadTrace(ABC):
    """Rows q (n_q, F) over k (n_k, F) and v (n_k, d), integers: the stimulus for a netlist, and what it must answer.

    keys: (n_q,), how many keys each row sees, from the first one on; causal masks are such numbers. mask: (n_q, n_k)
    bool, which of them are visible; None: all.
    """

    def __init__(
        self, size: HeadSize, q: Integers, k: Integers, v: Integers, keys: Integers, mask: Flags | None = None
    ) -> None:
        padding = ((0, -len(k) % size.lanes), (0, 0))
        self.size, self.keys = size, keys
        self.q, self.k, self.v = q, np.pad(k, padding), np.pad(v, padding)
        self.mask = np.ones((len(q), len(self.k)), dtype=np.bool_)
        self.mask[:, : len(k)] &= True if mask is None else mask
        self.seen = self.mask & (np.arange(len(self.k)) < np.minimum(keys, len(k))[:, None])
        self.served = Schedule([slot for row, count in enumerate(keys.tolist()) for slot in self.slots(row, count)])
        self.index = self.served.block * size.lanes + self.served.lane
        self.asked = self.served.key | self.served.score
        self.visible = self.asked & self.seen[self.served.row, np.where(self.asked, self.index, 0)]

    @property
    @abstractmethod
    def sums(self) -> Integers:
        """(blocks, n_q, features of the values' phase): after each block; the last one is the row's result."""

    @abstractmethod
    def slots(self, row: int, keys: int) -> list[Slot]:
        """The cycles of a row that sees so many keys."""

    @abstractmethod
    def value_words(self) -> Integers:
        """(keys, features of the values' phase), as the circuit takes them."""

    def inputs(self) -> dict[str, Integers]:
        """Integers (cycles,) by port; what is read from a memory holds until the next reading."""
        served, size = self.served, self.size
        row, key, asked = self.served_row, self.served_key, latest(self.asked)
        at = latest(served.value)
        words = self.value_words()
        values = words.reshape(-1, size.lanes, words.shape[-1])[served.block[at], :, served.feature[at]]
        inputs = {
            "start": served.load.astype(np.int64),
            "keys": self.keys[row],
            "mask": self.mask[row[asked], self.index[asked]].astype(np.int64),
            "addend": self._addend(),
        }
        inputs |= {f"q{f}": self.q[row, f] for f in range(size.features)}
        inputs |= {f"k{f}": self.k[key, f] for f in range(size.features)}
        return inputs | {f"v{lane}": values[:, lane] for lane in range(size.lanes)}

    def outputs(self) -> dict[str, Output]:
        """What every output port carries."""
        served, before = self.served, self.before
        row, block, feature = served.row[before], served.block[before], served.feature[before]
        always, summed = np.ones(len(row), dtype=np.bool_), later(served.value)
        return {
            "load": flags(served.load, always),
            "key": flags(served.key, always),
            "value": flags(served.value, always),
            "lane": Output(served.lane, self.asked),
            "block": Output(served.block, self.asked | served.value),
            "feature": Output(served.feature, served.value),
            "sum_valid": flags(summed, always),
            "complete": flags((block + 1) * self.size.lanes >= self.keys[row], summed),
            "sum_feature": Output(feature, summed),
            "total": Output(self.sums[block, row, feature], summed),
        }

    @abstractmethod
    def memory_bits(self) -> dict[str, int]:
        """Bits read and written, by memory, in all."""

    @property
    def served_row(self) -> Integers:
        """(cycles,) the row that was taken over last."""
        return self.served.row[latest(self.served.load)]

    @property
    def served_key(self) -> Integers:
        """(cycles,) the key that was taken over last."""
        return self.index[latest(self.served.key & self.visible)]

    @property
    def before(self) -> Integers:
        """(cycles,) the cycle whose results stand at the ports."""
        return np.maximum(np.arange(len(self.served.row)) - 1, 0)

    def passed_bits(self, features: int, bits: int) -> int:
        """Of the sums that are written behind a block and read again in the next one."""
        blocks = np.array([self.size.blocks(count) for count in self.keys.tolist()])
        return int(2 * (blocks - 1).sum() * features) * bits

    def _addend(self) -> Integers:
        served = self.served
        at = latest(later(served.value & (served.block > 0))) - 1
        block = np.maximum(served.block[at] - 1, 0)
        addend: Integers = self.sums[block, served.row[at], served.feature[at]]
        return addend


def flags(values: Flags, strobe: Flags) -> Output:
    """An output of one bit."""
    return Output(values.astype(np.int64), strobe)


def latest(strobe: Flags) -> Integers:
    """(cycles,) the cycle in which the strobe was last set; before the first one, that one."""
    when: Integers = np.maximum.accumulate(np.where(strobe, np.arange(len(strobe)), -1))
    return np.where(when < 0, strobe.argmax(), when)


def later(strobe: Flags) -> Flags:
    """(cycles,) one cycle later."""
    return np.concatenate([[False], strobe[:-1]])
