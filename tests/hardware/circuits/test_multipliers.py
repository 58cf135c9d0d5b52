"""Dot products equal those of integers, in every form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hardware.circuits.simulate import evaluate

pytest.importorskip("amaranth")

from inhibitor_transformers.hardware.circuits.multipliers import FORMS, DotProduct, Form, Integers, Operand

GENERATOR = np.random.default_rng(0)


def extremes(lanes: int, a: Operand, b: Operand) -> tuple[Integers, Integers]:
    """All pairs of ends and of what is next to zero, each in all lanes at once and mixed."""
    ends = [[*{o.low, max(o.low, -1), 0, 1, o.high}] for o in (a, b)]
    pairs = np.array([(x, y) for x in ends[0] for y in ends[1]])
    same = [np.repeat(pairs[:, side, None], lanes, 1) for side in (0, 1)]
    mixed = [np.stack([np.roll(pairs[:, side], 3 * j) for j in range(lanes)], 1) for side in (0, 1)]
    return np.concatenate([same[0], mixed[0]]), np.concatenate([same[1], mixed[1]])


def random(rows: int, lanes: int, operand: Operand) -> Integers:
    return GENERATOR.integers(operand.low, operand.high, (rows, lanes), endpoint=True)


def check(circuit: DotProduct, a: Integers, b: Integers) -> None:
    encoded = {"a": circuit.encode("a", a), "b": circuit.encode("b", b)}
    inputs = [
        {f"{name}{j}": int(values[row, j]) for name, values in encoded.items() for j in range(circuit.lanes)}
        for row in range(len(a))
    ]
    expected = circuit.model(a, b)
    assert np.array_equal(expected, np.einsum("rl,rl->r", a, b))
    assert evaluate(circuit, inputs, ["total"]) == [(int(total),) for total in expected]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize(
    ("lanes", "bits"),
    [
        (8, 4),
        (8, 8),
        (3, 5),
        # 16 bits in 32 lanes and more take minutes each.
        *(pytest.param(*size, marks=pytest.mark.slow) for size in ((8, 16), (32, 4), (32, 8), (64, 4), (64, 8))),
    ],
)
def test_a_dot_product_is_exact(lanes: int, bits: int, signed: bool, form: Form) -> None:
    a, b = Operand(bits, signed), Operand(bits, True)
    rows_a, rows_b = extremes(lanes, a, b)
    rows_a = np.concatenate([rows_a, random(15, lanes, a)])
    rows_b = np.concatenate([rows_b, random(15, lanes, b)])
    check(DotProduct(lanes, a, b, form), rows_a, rows_b)


@settings(max_examples=10, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(3, 9), st.integers(3, 9), st.booleans(), st.sampled_from(FORMS))
def test_operands_of_any_width(
    data: st.DataObject, lanes: int, a_bits: int, b_bits: int, signed: bool, form: Form
) -> None:
    a, b = Operand(a_bits, signed), Operand(b_bits, True)
    rows = [data.draw(st.lists(st.integers(o.low, o.high), min_size=3 * lanes, max_size=3 * lanes)) for o in (a, b)]
    rows_a, rows_b = np.array(rows).reshape(2, 3, lanes)
    check(DotProduct(lanes, a, b, form), rows_a, rows_b)


def test_the_trees_of_all_lanes_are_one() -> None:
    """Booth's rows are fewer than Baugh–Wooley's, and neither form has an addition but the tree's last one."""
    from inhibitor_transformers.hardware.circuits.rtlil import to_rtlil

    adders = {}
    for form in FORMS:
        text = to_rtlil(DotProduct(8, Operand(8, True), Operand(8, True), form))
        assert text.count("cell $add") == 1
        adders[form] = text.count("cell \\full_adder")
    assert adders["plain"] < adders["booth"] < adders["baugh_wooley"]


@pytest.mark.parametrize("zero_gating", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_operands_behind_registers(form: Form, zero_gating: bool) -> None:
    """Each taken over by its own strobe; lanes whose held operand is 0 may miss theirs."""
    lanes, operand = 4, Operand(4, True)
    circuit = DotProduct(lanes, operand, operand, form, registers="operands", zero_gating=zero_gating, width=12)
    a, b = (random(60, lanes, operand) for _ in range(2))
    a[GENERATOR.random(a.shape) < 0.4] = 0
    load, enable, addend = GENERATOR.random(60) < 0.2, GENERATOR.random(60) < 0.7, GENERATOR.integers(-900, 900, 60)
    load[0] = enable[1] = True
    latest = [np.maximum.accumulate(np.where(strobe, np.arange(60), 0)) for strobe in (load, enable)]
    fresh = latest[1] > latest[0]  # keys that came behind their query
    expected = circuit.model(a[latest[0]], b[latest[1]], addend)
    encoded = {"a": circuit.encode("a", a), "b": circuit.encode("b", b)}
    inputs = [
        {f"{name}{j}": int(values[row, j]) for name, values in encoded.items() for j in range(lanes)}
        | {"load": int(load[row]), "enable": int(enable[row]), "addend": int(addend[row])}
        for row in range(60)
    ]
    found = np.array(evaluate(circuit, inputs, ["total"], ticks=1))[:, 0]
    assert np.array_equal(found[fresh], expected[fresh])
