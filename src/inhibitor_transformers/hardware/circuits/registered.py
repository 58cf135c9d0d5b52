"""Operand registers in front of logic: what every element has in a head, the same for both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import Elaboratable, Module, Signal

from .registers import register
from .rtlil import Circuit


class Registered(Elaboratable):
    """`circuit` with a register in front of each input; its own ports, and `load` and `enable` beside them.

    held: inputs that are taken over at edges with `load`; streamed: those at edges with `enable`.
    gates: by streamed input the held one of its lane; while that is 0, the streamed word is not clocked, as it does not
    matter.
    """

    def __init__(
        self, circuit: Circuit, held: Sequence[str], streamed: Sequence[str], gates: Mapping[str, str] | None = None
    ) -> None:
        self.circuit, self.held, self.streamed, self.gates = circuit, held, streamed, gates or {}
        self.load, self.enable = Signal(), Signal()
        self.inner = circuit.ports()
        self.outer = {name: Signal(self.inner[name].shape(), name=name) for name in (*held, *streamed)}

    def ports(self) -> dict[str, Signal]:
        return self.inner | self.outer | {"load": self.load, "enable": self.enable}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.circuit = self.circuit
        for name in self.held:
            m.d.comb += self.inner[name].eq(register(m, self.outer[name], self.load))
        for name in self.streamed:
            enable = self.enable
            if name in self.gates:
                enable = Signal(name=f"{name}_matters")
                m.d.comb += enable.eq(self.enable & self.inner[self.gates[name]].any())
            m.d.comb += self.inner[name].eq(register(m, self.outer[name], enable))
        return m
