"""Circuits in amaranth's simulator: integers in, integers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

pytest.importorskip("amaranth", reason="circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")

from amaranth.hdl import Signal
from amaranth.sim import Simulator

from inhibitor_transformers.hardware.circuits.rtlil import Circuit


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
