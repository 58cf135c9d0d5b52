"""Circuits in amaranth's simulator: integers in, integers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

pytest.importorskip("amaranth", reason="circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")

from amaranth.hdl import Signal
from amaranth.sim import Simulator

from inhibitor_transformers.hardware.circuits.rtlil import Circuit
from inhibitor_transformers.hardware.circuits.trace import HeadTrace


def evaluate(
    circuit: Circuit, inputs: Iterable[Mapping[str, int]], outputs: Sequence[str], *, ticks: int = 0
) -> list[tuple[int, ...]]:
    """The outputs after each set of inputs, `ticks` clock edges later (0: logic without registers)."""
    ports: dict[str, Signal] = circuit.ports()
    found: list[tuple[int, ...]] = []
    simulator = Simulator(circuit)

    async def bench(context) -> None:
        for values in inputs:
            for name, value in values.items():
                context.set(ports[name], value)
            if ticks:
                await context.tick().repeat(ticks)
            else:
                await context.delay(1e-9)
            found.append(tuple(context.get(ports[name]) for name in outputs))

    if ticks:
        simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def follow(head: Circuit, trace: HeadTrace) -> list[int]:
    """`total` wherever it is complete, from a head that does what its trace says in every cycle at every port."""
    ports, inputs, outputs = head.ports(), trace.inputs(), trace.outputs()
    assert inputs.keys() | outputs.keys() | {"busy"} == ports.keys()
    wrong: list[str] = []
    complete: list[int] = []

    async def bench(context) -> None:
        for cycle in range(len(trace.served.row)):
            for name, values in inputs.items():
                context.set(ports[name], int(values[cycle]))
            found = {name: context.get(ports[name]) for name in outputs}
            for name, (values, strobe) in outputs.items():
                if strobe[cycle] and found[name] != values[cycle]:
                    wrong.append(f"cycle {cycle}: {name} is {found[name]}, not {values[cycle]}")
            if found["sum_valid"] and found["complete"]:
                complete.append(found["total"])
            await context.tick()
        assert not context.get(ports["busy"])

    simulator = Simulator(head)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert not wrong, "\n".join(wrong[:10])
    return complete
