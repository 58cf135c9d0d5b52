"""What happens at the ports of a dot-product head, cycle by cycle: its model, and the stimulus for its netlist."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from .head_size import Flags, Integers
from .softmax_head import KEY_DELAY, SoftmaxShape
from .softmax_model import LOWEST, Chunk, attend_chunks
from .trace import HeadTrace, Output, Slot, flags

HALVING = 2  # cycles after a key is served in which probabilities are halved for it


class SoftmaxTrace(HeadTrace):
    """Of `SoftmaxHead`; arguments as `HeadTrace`, q and k signed; shift: s."""

    def __init__(
        self,
        shape: SoftmaxShape,
        shift: int,
        q: Integers,
        k: Integers,
        v: Integers,
        keys: Integers,
        mask: Flags | None = None,
    ) -> None:
        self.shape, self.shift = shape, shift
        super().__init__(shape, q, k, v, keys, mask)

    @cached_property
    def chunks(self) -> list[Chunk]:
        """By block; A has ℓ as its last feature."""
        return list(attend_chunks(self.q, self.k, self.value_words(), self.seen, np.array(self.shift), self.shape.form))

    @cached_property
    def sums(self) -> Integers:
        """(blocks, n_q, d + 1): after each block; the last one is A, and ℓ."""
        return np.stack([chunk.outputs for chunk in self.chunks])

    def slots(self, row: int, keys: int) -> list[Slot]:
        slots = [Slot("load", row, 0)]
        for block in range(self.shape.blocks(keys)):
            waits = [Slot("key", row, block, lane) for lane in range(self.shape.lanes)]
            waits += [Slot("", row, block)] * KEY_DELAY
            halvings = [0] * HALVING + self._halvings(row, block).tolist() + [0] * (KEY_DELAY - HALVING)
            for slot, more in zip(waits, halvings, strict=True):
                slots += [slot._replace(halve=True)] * more + [slot]
            slots += [Slot("value", row, block, feature=feature) for feature in range(self.shape.values + 1)]
        return slots

    def value_words(self) -> Integers:
        """One feature more, of ones, padding included."""
        return np.pad(self.v, ((0, 0), (0, 1)), constant_values=1)

    def inputs(self) -> dict[str, Integers]:
        return super().inputs() | {"shift": np.full(len(self.served.row), self.shift)}

    def outputs(self) -> dict[str, Output]:
        always = np.ones(len(self.served.row), dtype=np.bool_)
        return super().outputs() | {"halve": flags(self.served.halve, always)}

    def memory_bits(self) -> dict[str, int]:
        """What is read for the feature of ones is not counted."""
        served, shape = self.served, self.shape
        return {
            "q": len(self.q) * shape.bits * shape.features,
            "k": int((self.visible & ~served.halve).sum()) * shape.bits * shape.features,
            "v": int((served.value & (served.feature < shape.values)).sum()) * shape.bits * shape.lanes,
            "mask": int((served.key & ~served.halve).sum()),
            "sums": self.passed_bits(shape.values + 1, shape.accumulator_bits),
            "output": len(self.q) * (shape.values + 1) * shape.accumulator_bits,
        }

    def _halvings(self, row: int, block: int) -> Integers:
        """(lanes,) how often probabilities are halved for each key of a block: not for the first one that is seen."""
        running = self.chunks[block].running[row]
        seen = self.seen[row, block * self.shape.lanes :][: self.shape.lanes]
        moves = np.diff(running, prepend=LOWEST)
        moves[: seen.argmax() + 1] = 0
        return moves
