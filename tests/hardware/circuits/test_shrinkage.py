"""Both forms of the inhibited sum equal integers, with and without registers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hardware.circuits.simulate import evaluate

pytest.importorskip("amaranth")

from inhibitor_transformers.hardware.circuits.shrinkage import FORMS, Form, Integers, Shrinkage


def operands(bits: int, lanes: int, seed: int, cases: int = 12) -> tuple[Integers, Integers]:
    """v and z (cases, lanes): random ones, after those with nothing, everything and just everything inhibited."""
    generator = np.random.default_rng(seed)
    qmax = (1 << (bits - 1)) - 1
    v = generator.integers(-qmax, qmax + 1, (cases, lanes))
    z = generator.integers(0, qmax + 1, (cases, lanes))
    v[0], v[1], z[:2] = qmax, -qmax, 0
    z[2], z[3] = qmax, np.abs(v[3])
    return v, z


def ports(circuit: Shrinkage, v: Integers, z: Integers, **others: Integers) -> list[dict[str, int]]:
    values = circuit.encode(v, z) | others
    return [{name: int(column[case]) for name, column in values.items()} for case in range(len(v))]


def expected(total: Integers) -> list[tuple[int]]:
    return [(value,) for value in total.tolist()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bits", [3, 4, 5, 6, 8, 16])
def test_the_circuit_is_its_model(form: Form, bits: int) -> None:
    lanes = 8 if bits <= 8 else 2
    circuit, (v, z) = Shrinkage(bits, lanes, form), operands(bits, lanes, seed=bits)
    assert evaluate(circuit, ports(circuit, v, z), ["total"]) == expected(circuit.model(v, z))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lanes", [32, 64])
def test_the_circuit_is_its_model_in_many_lanes(form: Form, lanes: int) -> None:
    circuit, (v, z) = Shrinkage(8, lanes, form), operands(8, lanes, seed=lanes, cases=100)
    assert evaluate(circuit, ports(circuit, v, z), ["total"]) == expected(circuit.model(v, z))


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 6), st.integers(1, 5), st.sampled_from(FORMS), st.integers(0, 999), st.integers(-500, 500))
def test_any_size(bits: int, lanes: int, form: Form, seed: int, addend: int) -> None:
    circuit, (v, z) = Shrinkage(bits, lanes, form, width=12), operands(bits, lanes, seed)
    addends = np.full(len(v), abs(addend) if form == "min" else addend)
    cases = ports(circuit, v, z, addend=addends)
    assert evaluate(circuit, cases, ["total"]) == expected(circuit.model(v, z, addends))


@pytest.mark.parametrize("bits", [4, 8])
def test_both_forms_are_inhibited_sums(bits: int) -> None:
    v, z = operands(bits, 8, seed=1)
    qmax = (1 << (bits - 1)) - 1
    inhibited = (np.sign(v) * np.maximum(np.abs(v) - z, 0)).sum(-1)
    np.testing.assert_array_equal(Shrinkage(bits, 8).model(v, z), inhibited)
    least = Shrinkage(bits, 8, "min")
    np.testing.assert_array_equal(least.model(v, z) - least.model(v, np.full_like(z, qmax)), inhibited)


def test_registers_hold_what_is_not_enabled() -> None:
    """z is held, one row of it for all features; the total follows v, cycle by cycle, and stays without enable."""
    circuit, (v, z) = Shrinkage(4, 8, retimed=True), operands(4, 8, seed=2, cases=30)
    z[:] = np.array([0, 1, 2, 3, 4, 5, 6, 6])
    cycles = ports(circuit, v, z, enable=np.ones(len(v), dtype=np.int64))
    held = [cycles[-1] | {f"v{i}": 5 for i in range(8)} | {"enable": 0}]
    found = evaluate(circuit, [*cycles, *held], ["total"], ticks=1)
    assert found == [*expected(circuit.model(v, z)), expected(circuit.model(v, z))[-1]]


def test_registers_behind_terms_need_terms() -> None:
    with pytest.raises(ValueError, match="need form 'subtract'"):
        Shrinkage(8, 8, "min", retimed=True)
