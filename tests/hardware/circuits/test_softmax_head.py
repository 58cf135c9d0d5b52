"""The dot-product head with its control equals the integer model, masks, moving maxima and empty rows included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("amaranth", reason="circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")

from amaranth.sim import Simulator

from inhibitor_transformers.hardware.circuits.head_size import Flags, Integers
from inhibitor_transformers.hardware.circuits.rtlil import to_rtlil
from inhibitor_transformers.hardware.circuits.softmax_head import SoftmaxHead, SoftmaxShape
from inhibitor_transformers.hardware.circuits.softmax_model import attend
from inhibitor_transformers.hardware.circuits.softmax_trace import SoftmaxTrace
from inhibitor_transformers.hardware.gates.cells import CellLibrary
from inhibitor_transformers.hardware.gates.synthesize import Recipe, synthesize
from inhibitor_transformers.hardware.measure import Stream, require_exact
from tests.hardware.circuits.simulate import follow
from tests.hardware.gates.designs import needs_library, needs_yosys

GENERATOR = np.random.default_rng(0)


def serve(
    head: SoftmaxHead, q: Integers, k: Integers, v: Integers, valid: Flags, keys: Integers, shift: int
) -> tuple[Integers, int]:
    """A with ℓ behind it, (Nq, Dv + 1), from a head whose memories are these; and how often it waited."""
    shape = head.shape
    ones = np.pad(v, ((0, -len(v) % shape.lanes), (0, 1)), constant_values=1)
    sums = np.zeros((len(q), shape.values + 1), np.int64)
    complete = np.zeros_like(sums)
    waits = 0
    simulator = Simulator(head)
    ports = head.ports()

    async def bench(context) -> None:
        nonlocal waits
        get = lambda name: context.get(ports[name])  # noqa: E731

        def put(name: str, values: Integers) -> None:
            for i, value in enumerate(values.tolist()):
                context.set(ports[f"{name}{i}"], value)

        context.set(ports["shift"], shift)
        for row in range(len(q)):
            context.set(ports["start"], 1)
            context.set(ports["keys"], int(keys[row]))
            put("q", q[row])
            await context.tick()
            context.set(ports["start"], 0)
            put("q", GENERATOR.integers(0, 2, shape.features))  # nobody holds it any more
            running = True
            while running or get("sum_valid"):
                index = get("block") * shape.lanes + get("lane")
                exists = index < len(k)
                put("k", k[index] if exists else np.zeros(shape.features, int))
                context.set(ports["mask"], int(valid[row, index]) if exists else 0)
                if get("value"):
                    block = slice(get("block") * shape.lanes, (get("block") + 1) * shape.lanes)
                    put("v", ones[block, get("feature")])
                if get("sum_valid"):
                    feature = get("sum_feature")
                    context.set(ports["addend"], int(sums[row, feature]))
                    await context.delay(1e-10)
                    sums[row, feature] = get("total")
                    complete[row, feature] += get("complete")
                await context.delay(1e-10)
                waits += get("halve")
                await context.tick()
                running = bool(get("busy"))

    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert (complete == 1).all()
    return sums, waits


def check(
    head: SoftmaxHead, q: Integers, k: Integers, v: Integers, valid: Flags, keys: Integers, shift: int
) -> tuple[Integers, int]:
    outputs, total = attend(q, k, v, valid & (np.arange(len(k)) < keys[:, None]), np.array(shift), head.shape.form)
    found, waits = serve(head, q, k, v, valid, keys, shift)
    assert np.array_equal(found, np.concatenate([outputs, total[:, None]], 1))
    return found, waits


def operands(shape: SoftmaxShape, queries: int, keys: int) -> tuple[Integers, Integers, Integers]:
    top = shape.form.top
    q, k = (GENERATOR.integers(-top, top, (n, shape.features), endpoint=True) for n in (queries, keys))
    return q, k, GENERATOR.integers(-top, top, (keys, shape.values), endpoint=True)


@pytest.mark.parametrize("bits", [4, 8, pytest.param(16, marks=pytest.mark.slow)])
def test_causal_rows_with_masks(bits: int) -> None:
    shape = SoftmaxShape(bits, features=8, values=4, lanes=8, keys=24)
    q, k, v = operands(shape, 4, 21)
    valid = GENERATOR.random((4, 21)) < 0.8
    valid[2] = False
    keys = np.array([0, 8, 9, 21])
    found, waits = check(SoftmaxHead(shape), q, k, v, valid, keys, shift=2 * bits - 4)
    assert not found[0].any()
    assert not found[2].any()
    assert waits


def test_a_maximum_that_moves_with_every_key() -> None:
    """In one row it climbs, in the other one falls; both over the range of exponents."""
    shape = SoftmaxShape(8, features=8, values=4, lanes=8, keys=16)
    q = np.stack([np.full(8, 127), np.full(8, -127)])
    k = np.repeat(np.arange(-120, 120, 15)[:, None], 8, 1)
    _, _, v = operands(shape, 2, 16)
    _, waits = check(SoftmaxHead(shape), q, k, v, np.ones((2, 16), bool), np.array([16, 16]), shift=10)
    assert waits > 150


def test_extremes() -> None:
    shape = SoftmaxShape(8, features=8, values=4, lanes=8, keys=16)
    q, k, v = (np.full(size, 127) for size in ((2, 8), (16, 8), (16, 4)))
    q[1], v[:, 0] = -127, -127
    found, _ = check(SoftmaxHead(shape), q, k, v, np.ones((2, 16), bool), np.array([16, 16]), shift=0)
    assert abs(found[0, 0]) == abs(found[0, 1]) == 127 * found[0, -1]


@settings(max_examples=3, deadline=None)
@given(st.data(), st.sampled_from([4, 8]), st.integers(0, 14))
def test_any_operands(data: st.DataObject, bits: int, shift: int) -> None:
    shape = SoftmaxShape(bits, features=4, values=2, lanes=4, keys=8)
    top = shape.form.top

    def draw(*size: int) -> Integers:
        count = int(np.prod(size))
        return np.array(data.draw(st.lists(st.integers(-top, top), min_size=count, max_size=count))).reshape(size)

    q, k, v, valid = draw(2, 4), draw(7, 4), draw(7, 2), draw(2, 7) > -top // 2
    keys = np.array(data.draw(st.lists(st.integers(0, 7), min_size=2, max_size=2)))
    check(SoftmaxHead(shape), q, k, v, valid, keys, shift)


def make_trace(bits: int) -> SoftmaxTrace:
    shape = SoftmaxShape(bits, features=6, values=5, lanes=4, keys=12)
    q, k, v = operands(shape, 4, 11)
    mask = GENERATOR.random((4, 11)) < 0.8
    mask[2] = False
    return SoftmaxTrace(shape, 2 * bits - 6, q, k, v, np.array([0, 5, 8, 11]), mask)


@pytest.mark.parametrize("bits", [4, 8, pytest.param(16, marks=pytest.mark.slow)])
def test_the_head_is_as_its_trace_says(bits: int) -> None:
    """Cycle by cycle at every port, with waits and hidden keys."""
    trace = make_trace(bits)
    assert trace.served.halve.any()
    complete = follow(SoftmaxHead(trace.shape), trace)
    assert complete == [
        int(x) for row, keys in enumerate(trace.keys) for x in trace.sums[trace.shape.blocks(keys) - 1, row]
    ]


@needs_library
@needs_yosys
@pytest.mark.parametrize("bits", [4, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (8, 16))])
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(adders=False, carry="ripple", mapping="speed", gate_clocks=False)])
def test_the_netlist_of_a_head_is_as_its_trace_says(bits: int, recipe: Recipe) -> None:
    """In cells of the library."""
    trace = make_trace(bits)
    netlist = synthesize(to_rtlil(SoftmaxHead(trace.shape)), "top", CellLibrary.load("osu018"), recipe)
    stream = Stream(trace.inputs(), trace.outputs())
    require_exact(netlist, netlist.settle(stream.inputs), stream)


def test_what_a_trace_reads_and_writes() -> None:
    """A key that waits is read once, and hidden keys are not; the sum of probabilities is passed on as a feature is."""
    trace = make_trace(8)
    assert trace.memory_bits() == {
        "q": 4 * 6 * 8,
        "k": int(trace.seen.sum()) * 6 * 8,
        "v": 8 * 5 * 4 * 8,
        "mask": 8 * 4,
        "sums": 2 * 4 * 6 * trace.shape.accumulator_bits,
        "output": 4 * 6 * trace.shape.accumulator_bits,
    }
