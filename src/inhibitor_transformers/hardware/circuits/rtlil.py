"""RTLIL, the text that yosys reads, of a circuit."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module, Signal

from .trees import CELLS, Adder


class Circuit(Protocol):
    """What is synthesized and measured: an elaboratable that names its ports."""

    def ports(self) -> dict[str, Signal]: ...

    def elaborate(self, platform: object) -> Module: ...


def to_rtlil(circuit: Circuit, top: str = "top") -> str:
    """The circuit as RTLIL without source locations: the same circuit gives the same text.

    The module `top` has the ports of `circuit.ports()`, and with registers `clk` and `rst` beside them. Full and half
    adders are cells; their modules stand at the end (see `trees`).
    """
    return _convert(circuit, top, circuit.ports(), CELLS) + adder_modules()


@cache
def adder_modules() -> str:
    """The modules `full_adder` and `half_adder`, as logic."""
    text = ""
    for names in ("abc", "ab"):
        inputs = {name: Signal(name=name) for name in names}
        adder = Adder(*inputs.values())
        ports = inputs | {"sum": adder.sum, "carry": adder.carry}
        text += _convert(adder, adder.cell, ports, None).replace("attribute \\top 1\n", "")
    return text


def _convert(circuit: Elaboratable, top: str, ports: dict[str, Signal], platform: object) -> str:
    return rtlil.convert(
        circuit, name=top, platform=platform, ports={name: (port, None) for name, port in ports.items()}, emit_src=False
    )
