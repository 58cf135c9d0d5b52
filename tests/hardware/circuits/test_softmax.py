"""What is between and behind the dot products equals the integer model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hardware.circuits.simulate import evaluate

pytest.importorskip("amaranth")

from amaranth.sim import Simulator

from inhibitor_transformers.hardware.circuits.normalizer import Normalizer, Reciprocal
from inhibitor_transformers.hardware.circuits.softmax import Exponent, Probability
from inhibitor_transformers.hardware.circuits.softmax_model import MAX_GAIN, Integers, SoftmaxFormat

GENERATOR = np.random.default_rng(0)
bits_of_operands = pytest.mark.parametrize("bits", [4, 8, 16])


def rows(**ports: Integers) -> list[dict[str, int]]:
    return [dict(zip(ports, row, strict=True)) for row in zip(*(p.tolist() for p in ports.values()), strict=True)]


@bits_of_operands
def test_an_exponent_is_the_shifted_score_saturated(bits: int) -> None:
    circuit = Exponent(SoftmaxFormat(bits, 8), 2 * bits + 3)
    limit = 1 << (2 * bits + 2)
    dot = np.concatenate([[-limit, limit - 1, -1, 0, 1], GENERATOR.integers(-limit, limit, 20)]).astype(np.int64)
    dot = np.concatenate([dot, dot >> 7])
    shift = np.arange(1 << len(circuit.shift))
    shift = shift[shift < len(circuit.dot) + circuit.form.fraction_bits]
    dots, shifts = (x.ravel() for x in np.meshgrid(dot, shift))
    expected = circuit.model(dots, shifts)
    assert evaluate(circuit, rows(dot=dots, shift=shifts), ["exponent"]) == [(int(t),) for t in expected]


@bits_of_operands
def test_a_probability_of_every_distance_and_fraction(bits: int) -> None:
    circuit = Probability(SoftmaxFormat(bits, 8))
    fraction = np.arange(0, 1 << circuit.form.fraction_bits, 1 if bits < 16 else 17)
    exponent, maximum = np.array([-128, -127, -12, -1, 0, 1, 77, 127]), np.array([-128, -127, -1, 0, 5, 80, 127])
    near = np.stack([np.arange(-3, bits + 4) - bits, np.full(bits + 7, 0)])
    pairs = np.concatenate([np.stack(np.meshgrid(exponent, maximum)).reshape(2, -1), near], 1)
    scores = (pairs[0] << circuit.form.fraction_bits) + fraction[:, None]
    maxima = np.broadcast_to(pairs[1], scores.shape)
    p, exceeds = circuit.model(scores, maxima)
    expected = list(zip(p.ravel().tolist(), exceeds.ravel().tolist(), strict=True))
    assert evaluate(circuit, rows(score=scores.ravel(), maximum=maxima.ravel()), ["p", "exceeds"]) == expected
    assert p.max() < 1 << bits
    assert p[:, pairs[0] == pairs[1]].min() >= 1 << (bits - 1)


@bits_of_operands
def test_a_reciprocal_is_a_quotient(bits: int) -> None:
    circuit = Reciprocal(SoftmaxFormat(bits, 8), bits + 7)
    low, high = 1 << (bits - 1), 1 << (bits + 7)
    totals = [0, low, low + 1, 2 * low - 1, 2 * low, high - 1, *GENERATOR.integers(low, high, 20).tolist()]
    found = []

    async def bench(context) -> None:
        for total in totals:
            context.set(circuit.total, total)
            context.set(circuit.load, 1)
            await context.tick()
            context.set(circuit.load, 0)
            context.set(circuit.divide, 1)
            await context.tick().repeat(circuit.cycles)
            context.set(circuit.divide, 0)
            found.append((context.get(circuit.inverse), context.get(circuit.excess)))

    simulator = Simulator(circuit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == list(zip(*(x.tolist() for x in circuit.model(np.array(totals))), strict=True))


@bits_of_operands
def test_outputs_are_rounded_averages(bits: int) -> None:
    """Extremes included: all values the greatest, which a gain saturates."""
    form = SoftmaxFormat(bits, 8)
    reciprocal = Reciprocal(form, bits + 6)
    total = GENERATOR.integers(1 << (bits - 1), 1 << (bits + 6), 60)
    total[:2] = 1 << (bits - 1), (1 << (bits + 6)) - 1
    output = (total * GENERATOR.uniform(-form.top, form.top, 60)).astype(np.int64)
    output[:20] = form.top * total[:20]
    output[10:20] *= -1
    gain = np.arange(60) % (MAX_GAIN + 1)
    inverse, excess = reciprocal.model(total)
    circuit = Normalizer(form, 2 * bits + 6, len(reciprocal.excess))
    expected = circuit.model(output, inverse, excess, gain)
    found = evaluate(circuit, rows(output=output, inverse=inverse, excess=excess, gain=gain), ["y"])
    assert found == [(int(y),) for y in expected]
    exact = np.clip(output / total * 2.0**gain, -form.top, form.top)
    assert np.abs(expected - exact).max() < 0.5 + 2.0**MAX_GAIN * 2.0 ** -(bits - 2)


@settings(max_examples=10, deadline=None)
@given(st.data(), st.sampled_from([4, 8]))
def test_outputs_of_any_operands(data: st.DataObject, bits: int) -> None:
    form = SoftmaxFormat(bits, 8)
    total = data.draw(st.integers(1 << (bits - 1), (1 << (bits + 6)) - 1))
    output = data.draw(st.integers(-form.top * total, form.top * total))
    gain = data.draw(st.integers(0, MAX_GAIN))
    inverse, excess = Reciprocal(form, bits + 6).model(np.array([total]))
    circuit = Normalizer(form, 2 * bits + 6, 3)
    expected = circuit.model(np.array([output]), inverse, excess, np.array([gain]))
    inputs = {"output": output, "inverse": int(inverse[0]), "excess": int(excess[0]), "gain": gain}
    assert evaluate(circuit, [inputs], ["y"]) == [(int(expected[0]),)]
