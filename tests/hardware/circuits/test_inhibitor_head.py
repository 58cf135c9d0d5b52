"""The inhibitor head, cycle by cycle: its ports are as the trace says, and A is the specification's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")


from inhibitor_transformers.hardware.circuits.inhibitor_head import InhibitorHead
from inhibitor_transformers.hardware.circuits.inhibitor_model import Configuration, InhibitorShape
from inhibitor_transformers.hardware.circuits.inhibitor_trace import InhibitorTrace
from inhibitor_transformers.hardware.circuits.rtlil import to_rtlil
from inhibitor_transformers.hardware.circuits.sequencer import Sequencer
from inhibitor_transformers.hardware.gates.cells import CellLibrary
from inhibitor_transformers.hardware.gates.synthesize import Recipe, synthesize
from inhibitor_transformers.hardware.measure import Stream, require_exact
from tests.hardware.circuits.simulate import evaluate, follow
from tests.hardware.circuits.test_inhibitor_model import Case, make_case
from tests.hardware.gates.designs import needs_library, needs_yosys

SMALL = {"features": 6, "values": 5, "lanes": 8, "keys": 24}


def trace_of(case: Case) -> InhibitorTrace:
    configuration = Configuration.of(case.shape, case.sign, case.delta, case.shift)
    return InhibitorTrace(case.shape, configuration, case.q, case.k, case.v, case.keys, case.mask)


def check(case: Case, *, retimed: bool = True) -> None:
    complete = follow(InhibitorHead(case.shape, retimed=retimed), trace_of(case))
    np.testing.assert_array_equal(np.array(complete).reshape(-1, case.shape.values), case.reference())


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(("causal", "sign", "bits", "retimed"), [(False, 1, 4, False), (True, -1, 8, True)])
def test_the_head_is_the_specification(centered: bool, causal: bool, sign: int, bits: int, retimed: bool) -> None:
    """Rows with all keys, some, one and none; three blocks, the last of them not full."""
    shape = InhibitorShape(bits, **SMALL, centered=centered)
    delta = (0 if centered else -sign * 3 * (1 << bits)) + (1 << bits) // 2
    check(make_case(shape, sign, delta, 1, queries=4, keys=19, causal=causal), retimed=retimed)


@needs_library
@needs_yosys
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(adders=False, carry="ripple", mapping="speed", gate_clocks=False)])
def test_the_netlist_of_a_head_is_the_specification(centered: bool, recipe: Recipe) -> None:
    """With masks and a causal row, in cells of the library."""
    shape = InhibitorShape(4, **SMALL, centered=centered)
    case = make_case(shape, 1, 8 if centered else -30, 1, queries=4, keys=19, causal=True)
    netlist = synthesize(to_rtlil(InhibitorHead(shape)), "top", CellLibrary.load("osu018"), recipe)
    trace = trace_of(case)
    stream = Stream(trace.inputs(), trace.outputs())
    require_exact(netlist, netlist.settle(stream.inputs), stream)


@pytest.mark.slow
@pytest.mark.parametrize("retimed", [False, True])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bits", [3, 4, 5, 6, 8, 16])
@pytest.mark.parametrize("shift", [-3, 0, 2, 22])
def test_all_bits_and_shifts(bits: int, centered: bool, retimed: bool, shift: int) -> None:
    shape = InhibitorShape(bits, **SMALL, centered=centered)
    check(
        make_case(shape, 1, 5 << max(bits - 4, 0), shift, queries=3, keys=17, causal=True, seed=shift + 20),
        retimed=retimed,
    )


@pytest.mark.slow
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("features", [32, 64])
def test_heads_of_real_size(centered: bool, features: int) -> None:
    shape = InhibitorShape(8, features, features, keys=128, centered=centered, shifts=(0, 5))
    check(make_case(shape, 1, 300 - (0 if centered else 85 * features), 3, queries=3, keys=70, causal=True))


def test_memories_are_read_as_often_as_needed() -> None:
    """Hidden keys are not; sums are, for every block but the first, and written for every block but the last."""
    shape = InhibitorShape(4, **SMALL, centered=True)
    case = make_case(shape, 1, 5, 1, queries=4, keys=19)
    seen = int(case.seen.sum())
    assert trace_of(case).memory_bits() == {
        "q": 4 * 6 * 4,
        "k": seen * (6 * 4 + 7),
        "v": 4 * 3 * 5 * 8 * 4,
        "mask": 4 * (19 + 24),
        "sums": 4 * 2 * 2 * 5 * 9,
        "output": 4 * 5 * 9,
        "buffer": seen * 2 * 8,
    }
    assert len(trace_of(case).served.row) == 2 + sum(
        InhibitorHead(shape).sequencer.cycles(keys, row=shape.distance_bits) for keys in case.keys.tolist()
    )


def test_a_sequencer_of_no_power_of_two_lanes_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        Sequencer(12, 4, 24, buffered=False, key_delay=1)
    with pytest.raises(ValueError, match="two features"):
        Sequencer(8, 1, 24, buffered=False, key_delay=1)


@pytest.mark.parametrize(("buffered", "delays"), [(False, (0, 0)), (False, (3, 0)), (True, (0, 0)), (True, (2, 1))])
def test_the_sequencer_takes_as_many_cycles_as_it_says(buffered: bool, delays: tuple[int, int]) -> None:
    control = Sequencer(4, 3, 20, buffered=buffered, key_delay=delays[0], score_delay=delays[1])
    ports = ("start", "keys", "row_done", "busy", "row")
    control.ports = lambda: {name: getattr(control, name) for name in ports}  # type: ignore[attr-defined]
    for keys in (1, 4, 9, 20):
        cycles = control.cycles(keys, row=1)
        begin = {"start": 1, "keys": keys, "row_done": 1}
        found = evaluate(control, [begin, *[begin | {"start": 0}] * cycles], ["busy", "row"], ticks=1)  # type: ignore[arg-type]
        busy, row = zip(*found, strict=True)
        assert busy == (*[1] * (cycles - 1), 0, 0)
        assert sum(row) == buffered
