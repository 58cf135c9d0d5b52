"""Whole heads on real operands: area, period and energy of their netlists, found exact cycle by cycle before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .circuits.inhibitor_head import InhibitorHead
from .circuits.inhibitor_model import Configuration, InhibitorShape
from .circuits.inhibitor_trace import InhibitorTrace
from .circuits.rtlil import Circuit
from .circuits.softmax_head import SoftmaxHead, SoftmaxShape
from .circuits.softmax_trace import SoftmaxTrace
from .circuits.trace import HeadTrace
from .gates.cells import CellLibrary
from .gates.synthesize import RECIPES, Recipe
from .measure import Measurement, Stream, measure
from .operands import InhibitorOperands, SoftmaxOperands

LANES = 32  # keys of a block, on both sides


@dataclass(frozen=True)
class HeadCost:
    """A head that attends with some rows of a text to all of it.

    pairs: of queries and keys. memory_bits: read and written per pair, in SRAM outside of the circuit.
    """

    measurement: Measurement
    pairs: int
    memory_bits: float

    @property
    def logic(self) -> float:
        """J per pair, registers and their clock left out."""
        return self.measurement.energy.logic * self.measurement.cycles / self.pairs

    @property
    def registers(self) -> float:
        """J per pair, registers and their clock included."""
        return self.measurement.energy.total * self.measurement.cycles / self.pairs

    @property
    def area(self) -> float:
        """μm²."""
        return self.measurement.area.total

    @property
    def path(self) -> float:
        """ns."""
        return self.measurement.path

    @property
    def cycles(self) -> float:
        """Per pair."""
        return self.measurement.cycles / self.pairs


def inhibitor_head(
    operands: InhibitorOperands,
    rows: Sequence[int],
    library: CellLibrary,
    *,
    keys: int = 512,
    retimed: bool = True,
    recipes: Sequence[Recipe] = RECIPES,
) -> HeadCost:
    """The inhibitor's head with these query rows; its memories hold `keys` keys; `retimed` as in `InhibitorHead`."""
    n, features = operands.k.shape
    shape = InhibitorShape(
        operands.bits, features, operands.v.shape[1], lanes=LANES, keys=max(keys, n), centered=operands.centered
    )
    configuration = Configuration.of(shape, operands.sign, operands.delta, operands.shift)
    trace = InhibitorTrace(shape, configuration, operands.q[list(rows)], operands.k, operands.v, np.full(len(rows), n))
    return _cost(InhibitorHead(shape, retimed=retimed), trace, len(rows) * n, library, recipes)


def softmax_head(
    operands: SoftmaxOperands,
    rows: Sequence[int],
    library: CellLibrary,
    *,
    keys: int = 512,
    recipes: Sequence[Recipe] = RECIPES,
) -> HeadCost:
    """The dot-product head with these query rows; its memories hold `keys` keys."""
    n, features = operands.k.shape
    shape = SoftmaxShape(operands.bits, features, operands.v.shape[1], lanes=LANES, keys=max(keys, n))
    trace = SoftmaxTrace(shape, operands.shift, operands.q[list(rows)], operands.k, operands.v, np.full(len(rows), n))
    return _cost(SoftmaxHead(shape), trace, len(rows) * n, library, recipes)


def _cost(head: Circuit, trace: HeadTrace, pairs: int, library: CellLibrary, recipes: Sequence[Recipe]) -> HeadCost:
    measured = measure(head, Stream(trace.inputs(), trace.outputs()), library, recipes)
    return HeadCost(measured, pairs, sum(trace.memory_bits().values()) / pairs)
