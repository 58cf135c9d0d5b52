"""Elements of both heads: mapped, exact, and measured with the same operands and registers."""

from __future__ import annotations

import numpy as np
import pytest

from inhibitor_transformers.hardware.circuits.inhibitor_head import InhibitorHead
from inhibitor_transformers.hardware.circuits.inhibitor_model import Configuration, InhibitorShape
from inhibitor_transformers.hardware.circuits.inhibitor_trace import InhibitorTrace
from inhibitor_transformers.hardware.circuits.trace import Output
from inhibitor_transformers.hardware.elements import (
    Element,
    distances,
    dot_products,
    inhibited_sums,
    measure_best,
    weighted_sums,
)
from inhibitor_transformers.hardware.gates.cells import CellLibrary
from inhibitor_transformers.hardware.gates.synthesize import RECIPES
from inhibitor_transformers.hardware.measure import Measurement, Stream, measure
from tests.hardware.gates.designs import needs_library, needs_yosys

pytestmark = [needs_library, needs_yosys]
LANES, ROWS, CYCLES = 4, 3, 24


def operands(bits: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Held (rows, lanes) and streamed (rows, cycles, lanes), extremes among them."""
    rng, top = np.random.default_rng(bits), 2 ** (bits - 1) - 1
    levels, values = (0, 2 * top + 2), (-top, top + 1)
    ranges = {
        "dot product": (values, values),
        "distance": (levels, levels),
        "weighted sum": (levels, values),
        "inhibited sum": ((0, top + 1), values),
    }[name]
    held, streamed = (rng.integers(*r, s) for r, s in zip(ranges, ((ROWS, LANES), (ROWS, CYCLES, LANES)), strict=True))
    held[0], streamed[0, 0], streamed[0, 1] = ranges[0][1] - 1, ranges[1][0], ranges[1][1] - 1
    held[1, 0] = 0
    return held, streamed


@pytest.mark.parametrize("bits", [4, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [dot_products, distances, weighted_sums, inhibited_sums])
def test_every_form_is_exact_and_measured(make, bits: int) -> None:
    library = CellLibrary.load("osu018")
    for element in make(bits, LANES):
        stream = element.stream(*operands(bits, element.name))
        measured = measure(element.registered(), stream, library, RECIPES[:1])
        assert 0 < measured.energy.logic < measured.energy.total
        assert 0 < measured.area.logic < measured.area.total
        assert measured.path > 1
        assert measured.cycles == ROWS * (CYCLES + 1) - 1
        operand_bits = sum(len(element.circuit.ports()[name]) for name in (*element.held, *element.streamed))
        assert measured.flip_flops == operand_bits


def test_the_distance_is_the_cheaper_element_for_the_same_operands() -> None:
    """At 4 lanes the gap is smaller than at 32: the tree's share is."""
    library = CellLibrary.load("osu018")
    levels = operands(8, "distance")
    centered = [np.clip(values - 128, -127, 127) for values in levels]
    _, product = measure_best(dot_products(8, LANES, ["booth"]), *centered, library, RECIPES[:1])
    _, distance = measure_best(distances(8, LANES, ["min"]), *levels, library, RECIPES[:1])
    assert 1.5 < product.energy.logic / distance.energy.logic < 5
    assert 1.2 < product.energy.total / distance.energy.total < 4
    assert 2 < product.area.total / distance.area.total < 5


def test_the_best_form_and_recipe_are_kept() -> None:
    library = CellLibrary.load("osu018")
    held, streamed = operands(4, "distance")
    element, winner = measure_best(distances(4, 2), held[:, :2], streamed[..., :2], library, RECIPES[:2])
    every = [
        measure(e.registered(), e.stream(held[:, :2], streamed[..., :2]), library, [recipe])
        for e in distances(4, 2)
        for recipe in RECIPES[:2]
    ]
    assert winner.cost == min(each.cost for each in every)
    assert element.form in ("difference", "min")


def test_words_that_do_not_matter_are_not_clocked() -> None:
    library = CellLibrary.load("osu018")
    (element,) = dot_products(8, LANES, ["booth"])
    held, streamed = operands(8, "dot product")

    def measured(q: np.ndarray) -> Measurement:
        return measure(element.registered(), element.stream(q, streamed), library, RECIPES[:1])

    some, none = measured(np.ones_like(held)), measured(np.zeros_like(held))
    assert none.energy.clock < some.energy.clock / 2
    assert none.energy.logic < some.energy.logic / 10


def test_a_netlist_that_differs_from_its_model_is_refused() -> None:
    (element,) = distances(4, LANES, ["min"])
    stream = element.stream(*operands(4, "distance"))
    total, strobe = stream.outputs["total"]
    wrong = Stream(stream.inputs, {"total": Output(total + (np.arange(len(total)) == 9), strobe)})
    with pytest.raises(ValueError, match=r"total is .* in cycle 9"):
        measure(element.registered(), wrong, CellLibrary.load("osu018"), RECIPES[:1])


def test_a_row_is_loaded_in_a_cycle_of_its_own() -> None:
    held, streamed = np.array([[1], [2]]), np.arange(6).reshape(2, 3, 1)
    element = Element(
        "sum", "", None, ["q0"], ["k0"],
        lambda a, b: {"q0": a[:, 0], "k0": b[:, 0]}, lambda a, b: (a + b)[:, 0], {},
    )  # fmt: skip
    stream = element.stream(held, streamed)
    assert stream.inputs["load"].tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert stream.inputs["q0"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert stream.inputs["k0"].tolist() == [0, 0, 1, 2, 2, 3, 4, 5]
    assert stream.outputs["total"].strobe.tolist() == [False, False, True, True, True, False, True, True]
    assert stream.outputs["total"].values.tolist() == [0, 1, 1, 2, 3, 4, 5, 6]


def test_a_head_is_measured_on_its_trace() -> None:
    """Its control, its clock gates and its pipeline are exact in cells as well."""
    shape = InhibitorShape(4, 4, 4, lanes=4, keys=8)
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(low, high, (rows, 4)) for rows, low, high in ((3, 0, 16), (6, 0, 16), (6, -7, 8)))
    trace = InhibitorTrace(shape, Configuration.of(shape, 1, -4, 1), q, k, v, np.array([6, 3, 5]))
    stream = Stream(trace.inputs(), trace.outputs())
    measured = measure(InhibitorHead(shape), stream, CellLibrary.load("osu018"), RECIPES[:1])
    assert measured.cycles == len(trace.served.row) - 1
    assert measured.energy.clock > 0
    assert measured.area.registers > measured.flip_flops * 96
