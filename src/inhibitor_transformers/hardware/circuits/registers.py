"""Words of registers that hold their content in cycles without `enable`.

A word has one enable, so that a synthesizer can stop its clock where nothing is taken over.
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value


def register(m: Module, value: Value, enable: Value) -> Signal:
    """What `value` was at the last edge with `enable`, zero at first; part of `m`."""
    word = Signal(value.shape(), reset_less=True)
    with m.If(enable):
        m.d.sync += word.eq(value)
    return word


def delayed(m: Module, value: Value) -> Signal:
    """`value` one cycle later, zero at first; part of `m`."""
    later = Signal(len(value))
    m.d.sync += later.eq(value)
    return later
