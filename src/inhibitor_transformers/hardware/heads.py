"""Heads on real operands, or their two elements alone: area, period, energy of netlists that were found exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import elements
from .circuits.head_size import Integers
from .circuits.inhibitor_head import InhibitorHead
from .circuits.inhibitor_model import Configuration, InhibitorShape
from .circuits.inhibitor_trace import InhibitorTrace
from .circuits.rtlil import Circuit
from .circuits.softmax_head import SoftmaxHead, SoftmaxShape
from .circuits.softmax_trace import SoftmaxTrace
from .gates.cells import CellLibrary
from .gates.synthesize import RECIPES, Recipe
from .measure import Measurement, Stream, measure
from .operands import InhibitorOperands, SoftmaxOperands

LANES = 32  # keys of a block, on both sides


@dataclass(frozen=True)
class Cost:
    """Of a head that attends with some rows of a text to all of it, per pair of query and key; of an element, per lane.

    count: pairs, or what all lanes together compute. lanes: of an element; 1 for a head. memory_bits: read and written
    per pair, in SRAM outside of the circuit; 0 for an element.
    """

    measurement: Measurement
    count: int
    lanes: int = 1
    memory_bits: float = 0.0

    @property
    def logic(self) -> float:
        """J, registers and their clock left out."""
        return self.measurement.energy.logic * self.measurement.cycles / self.count

    @property
    def registers(self) -> float:
        """J, registers and their clock included."""
        return self.measurement.energy.total * self.measurement.cycles / self.count

    @property
    def area(self) -> float:
        """μm²."""
        return self.measurement.area.total / self.lanes

    @property
    def path(self) -> float:
        """ns."""
        return self.measurement.path

    @property
    def cycles(self) -> float:
        """Per pair, or per lane."""
        return self.measurement.cycles / self.count


def trace_inhibitor(operands: InhibitorOperands, rows: Sequence[int], keys: int) -> InhibitorTrace:
    """These query rows over all keys, in a head whose memories hold `keys` keys."""
    n, features = operands.k.shape
    shape = InhibitorShape(
        operands.bits, features, operands.v.shape[1], lanes=LANES, keys=max(keys, n), centered=operands.centered
    )
    configuration = Configuration.of(shape, operands.sign, operands.delta, operands.shift)
    return InhibitorTrace(shape, configuration, operands.q[list(rows)], operands.k, operands.v, np.full(len(rows), n))


def trace_softmax(operands: SoftmaxOperands, rows: Sequence[int], keys: int) -> SoftmaxTrace:
    """These query rows over all keys, in a head whose memories hold `keys` keys."""
    n, features = operands.k.shape
    shape = SoftmaxShape(operands.bits, features, operands.v.shape[1], lanes=LANES, keys=max(keys, n))
    return SoftmaxTrace(shape, operands.shift, operands.q[list(rows)], operands.k, operands.v, np.full(len(rows), n))


def measure_head(
    trace: InhibitorTrace | SoftmaxTrace,
    library: CellLibrary,
    *,
    retimed: bool = True,
    recipes: Sequence[Recipe] = RECIPES,
) -> Cost:
    """The whole head; retimed: of an inhibitor head, as in `InhibitorHead`."""
    if isinstance(trace, InhibitorTrace):
        head: Circuit = InhibitorHead(trace.shape, retimed=retimed)
    else:
        head = SoftmaxHead(trace.shape)
    pairs = int(trace.keys.sum())
    measured = measure(head, Stream(trace.inputs(), trace.outputs()), library, recipes)
    return Cost(measured, pairs, memory_bits=sum(trace.memory_bits().values()) / pairs)


def measure_scores(trace: InhibitorTrace | SoftmaxTrace, library: CellLibrary) -> Cost:
    """The distance or the dot product alone: a row of q held, keys streamed, operand registers in front of both."""
    size = trace.size
    kind = elements.distances if isinstance(trace, InhibitorTrace) else elements.dot_products
    keys = trace.k[: int(trace.keys.max())]
    streamed = np.broadcast_to(keys, (len(trace.q), *keys.shape))
    return _measure_element(kind(size.bits, size.features), trace.q, streamed, library)


def measure_outputs(trace: InhibitorTrace | SoftmaxTrace, library: CellLibrary) -> Cost:
    """The inhibited or the weighted sum alone: a block of z or p held, features of v streamed, registers as before."""
    size = trace.size
    if isinstance(trace, InhibitorTrace):
        choices, weights = elements.inhibited_sums(size.bits, size.lanes), trace.scores
    else:
        choices = elements.weighted_sums(size.bits, size.lanes)
        weights = np.concatenate([chunk.probabilities for chunk in trace.chunks], axis=1)
    held = weights.reshape(-1, size.lanes)  # (rows · blocks, lanes)
    blocks = trace.v.reshape(-1, size.lanes, size.values).swapaxes(1, 2)
    return _measure_element(choices, held, np.tile(blocks, (len(trace.q), 1, 1)), library)


def _measure_element(
    choices: Sequence[elements.Element], held: Integers, streamed: Integers, library: CellLibrary
) -> Cost:
    _, measured = elements.measure_best(choices, held, streamed, library)
    return Cost(measured, streamed.size, lanes=streamed.shape[-1])
