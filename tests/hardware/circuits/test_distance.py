"""Both forms of the distance equal integers, with and without registers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hardware.circuits.simulate import evaluate

pytest.importorskip("amaranth")

from inhibitor_transformers.hardware.circuits.distance import FORMS, Distance, Form, Integers, wrap


@dataclass
class Operands:
    """q and k (cases, lanes), bias (cases,)."""

    q: Integers
    k: Integers
    bias: Integers


def operands(bits: int, lanes: int, seed: int, cases: int = 12) -> Operands:
    """Random ones, after the extremes: all equal, all as far apart as they can be."""
    generator = np.random.default_rng(seed)
    q, k = generator.integers(0, 1 << bits, (2, cases, lanes))
    q[:4], k[:4] = 0, 0
    q[[1, 3]], k[[2, 3]] = (1 << bits) - 1, (1 << bits) - 1
    return Operands(q, k, generator.integers(-(1 << bits), 1 << bits, cases))


def ports(circuit: Distance, x: Operands) -> list[dict[str, int]]:
    """What stands at the ports, by case."""
    values = {f"q{i}": x.q[:, i] for i in range(circuit.lanes)} | {f"k{i}": x.k[:, i] for i in range(circuit.lanes)}
    values |= {"key_sum": x.k.sum(-1)} if circuit.form == "min" else {}
    values |= {"bias": x.bias} if circuit.biased else {}
    values |= {"load": np.ones_like(x.bias), "enable": np.ones_like(x.bias)} if circuit.retimed else {}
    return [{name: int(column[case]) for name, column in values.items()} for case in range(len(x.q))]


def expected(circuit: Distance, x: Operands) -> list[tuple[int]]:
    key_sum = x.k.sum(-1) if circuit.form == "min" else 0
    total = circuit.model(x.q, x.k, key_sum=key_sum, bias=x.bias if circuit.biased else 0)
    return [(value,) for value in total.tolist()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bits", [3, 4, 5, 6, 8, 16])
def test_the_circuit_is_its_model(form: Form, bits: int) -> None:
    lanes = 8 if bits <= 8 else 2
    circuit, x = Distance(bits, lanes, form), operands(bits, lanes, seed=bits)
    assert evaluate(circuit, ports(circuit, x), ["total"]) == expected(circuit, x)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lanes", [32, 64])
def test_the_circuit_is_its_model_in_many_lanes(form: Form, lanes: int) -> None:
    circuit, x = Distance(8, lanes, form, width=20), operands(8, lanes, seed=lanes, cases=100)
    assert evaluate(circuit, ports(circuit, x), ["total"]) == expected(circuit, x)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 6), st.integers(1, 5), st.sampled_from(FORMS), st.integers(0, 999), st.booleans())
def test_any_size(bits: int, lanes: int, form: Form, seed: int, biased: bool) -> None:
    circuit, x = Distance(bits, lanes, form, width=15 if biased else None), operands(bits, lanes, seed)
    assert evaluate(circuit, ports(circuit, x), ["total"]) == expected(circuit, x)


@pytest.mark.parametrize("bits", [4, 8])
def test_both_forms_are_distances(bits: int) -> None:
    x = operands(bits, 8, seed=1)
    distance = np.abs(x.q - x.k).sum(-1)
    np.testing.assert_array_equal(Distance(bits, 8, "difference").model(x.q, x.k), distance)
    less = Distance(bits, 8, "min").model(x.q, x.k, key_sum=x.k.sum(-1))
    np.testing.assert_array_equal(less + x.q.sum(-1), distance)


def test_registers_hold_what_is_not_enabled() -> None:
    """q is loaded one cycle before its keys; then the total follows k, cycle by cycle, and stays without enable."""
    circuit, x = Distance(4, 8, width=10, retimed=True), operands(4, 8, seed=2)
    x.q[:], x.bias[:] = x.q[5], x.bias[5]
    cycles = ports(circuit, x)
    noise = {name: 3 for name in cycles[0] if name not in ("load", "enable")}
    loading = [cycles[0] | {"load": 1, "enable": 0}]
    streamed = [cycle | {name: 3 for name in cycle if name[0] in "qb"} | {"load": 0} for cycle in cycles]
    held = [noise | {"load": 0, "enable": 0}]
    found = evaluate(circuit, [*loading, *streamed, *held], ["total"], ticks=1)
    assert found[1:] == [*expected(circuit, x), expected(circuit, x)[-1]]


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("lanes", [3, 4])
@pytest.mark.parametrize("width", [None, 16])
def test_the_circuit_sums_a_key_by_itself(bits: int, lanes: int, width: int | None) -> None:
    circuit, x = Distance(bits, lanes, "min", width=width), operands(bits, lanes, seed=3)
    feature, key_sum = circuit.sum_request
    x.q[:], x.bias[:] = feature, 0
    cases = [case | {"key_sum": key_sum} for case in ports(circuit, x)]
    total = np.array(evaluate(circuit, cases, ["total"]))[:, 0]
    np.testing.assert_array_equal(circuit.sum_of(total), x.k.sum(-1))


def test_what_wraps_around() -> None:
    assert wrap(np.array([-9, -8, 7, 8, 23]), 4).tolist() == [7, -8, 7, -8, 7]


def test_registers_behind_minima_need_minima() -> None:
    with pytest.raises(ValueError, match="need form 'min'"):
        Distance(8, 8, "difference", retimed=True)
