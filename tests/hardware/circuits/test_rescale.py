"""Sign, shift and saturation of a score, and the mean of distances, equal integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hardware.circuits.simulate import evaluate

pytest.importorskip("amaranth")

from inhibitor_transformers.hardware.circuits.mean import Mean
from inhibitor_transformers.hardware.circuits.rescale import Rescale


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(2, 9), st.integers(2, 18), st.integers(-9, 9), st.integers(0, 15))
def test_rescaling_is_its_model(data: st.DataObject, bits: int, score_bits: int, low: int, shifts: int) -> None:
    circuit = Rescale(bits, score_bits, (low, low + shifts))
    largest = (1 << (score_bits - 1)) - 1
    scores = [0, -1, 1, largest, -largest - 1, *(data.draw(st.integers(-largest - 1, largest)) for _ in range(5))]
    cases = [
        {"score": score, "negative": negative, "shift": data.draw(st.integers(0, shifts))}
        for score in scores
        for negative in (0, 1)
    ]
    found = evaluate(circuit, cases, ["not_z"])
    columns = (np.array([case[name] for case in cases]) for name in ("score", "negative", "shift"))
    assert found == [(value,) for value in circuit.model(*columns).tolist()]


def test_rescaling_is_a_shift_with_saturation() -> None:
    circuit = Rescale(4, 10, (-1, 3))
    score = np.array([-5, 0, 3, 4, 100, -5, -8])
    assert (7 - circuit.model(score, np.array([0, 0, 0, 0, 0, 1, 1]), np.array([1, 1, 0, 0, 4, 1, 3]))).tolist() == [
        *[0, 0, 6, 7, 7],
        *[4, 1],
    ]


@settings(max_examples=8, deadline=None)
@given(st.data(), st.integers(2, 12), st.integers(1, 40))
def test_the_mean_is_rounded_half_up(data: st.DataObject, bits: int, count: int) -> None:
    """Rows one after the other, whatever the last one left in the registers."""
    circuit, low, high = Mean(bits, count), -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    drawn = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=count))
    cycles: list[dict[str, int]] = []
    means: dict[int, int] = {}  # by the cycle in which they are there
    for row in ([high] * count, [low] * count, drawn):
        nothing = {"x": 1, "clear": 0, "add": 0, "divide": 0}
        cycles += [nothing | {"clear": 1}, *(nothing | {"x": x, "add": 1} for x in row), nothing]
        cycles += [nothing | {"divide": 1}] * circuit.cycles
        means[len(cycles) - 1] = (2 * sum(row) + len(row)) // (2 * len(row))
        assert circuit.model(np.array(row)) == means[len(cycles) - 1]
    found = evaluate(circuit, cycles, ["mean"], ticks=1)
    assert {cycle: found[cycle][0] for cycle in means} == means
