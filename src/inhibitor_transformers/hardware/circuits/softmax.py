"""Streaming softmax between the two dot products, as logic without registers: `softmax_model` says what it computes.

Exponent      q̂·k̂ → t: the score as a power of 2, by a shift
Probability   t and the running maximum → p, by a table and a shift, and how the maximum moves
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Shape, Signal, Value

from .head_size import Integers
from .softmax_model import EXPONENT_BITS, SoftmaxFormat, probabilities, rescale


class Exponent(Elaboratable):
    """t = clip(dot · 2^F >> shift). Ports: dot (signed), shift (held: one a head), exponent (signed, E + F bits)."""

    def __init__(self, form: SoftmaxFormat, dot_bits: int) -> None:
        self.form = form
        self.dot = Signal(Shape(dot_bits, signed=True))
        self.shift = Signal(range(dot_bits + form.fraction_bits))
        self.exponent = Signal(Shape(form.score_bits, signed=True))

    def ports(self) -> dict[str, Signal]:
        return {port.name: port for port in (self.dot, self.shift, self.exponent)}

    def model(self, dot: Integers, shift: Integers) -> Integers:
        return rescale(dot, shift, self.form)

    def elaborate(self, platform: object) -> Module:
        """The longest shift comes first; of what later ones cannot reach it only counts whether it is all sign."""
        m = Module()
        sign, width = self.dot[-1], len(self.exponent)
        scaled = Signal(Shape(max(len(self.dot) + self.form.fraction_bits, width), signed=True))
        m.d.comb += scaled.eq(Cat(Const(0, self.form.fraction_bits), self.dot).as_signed())
        value: Value = scaled
        overflows: list[Value] = []
        for place in reversed(range(len(self.shift))):
            shifted = Signal(value.shape(), name=f"shifted_by_{1 << place}")
            m.d.comb += shifted.eq(Mux(self.shift[place], value >> (1 << place), value))
            reachable = width + (1 << place) - 1
            overflows += [bit ^ sign for bit in shifted[reachable:]]
            value = shifted[:reachable].as_signed()
        overflow = Signal()
        m.d.comb += [
            overflow.eq(Cat(*overflows, *(bit ^ sign for bit in value[width - 1 :])).any()),
            self.exponent.eq(Mux(overflow, Cat((~sign).replicate(width - 1), sign), value).as_signed()),
        ]
        return m


class Probability(Elaboratable):
    """p of a score, and whether its exponent exceeds the running maximum, which then is as if it were that exponent.

    Ports: score (signed, E + F bits), maximum (signed, E bits), p (b bits), exceeds.
    """

    def __init__(self, form: SoftmaxFormat) -> None:
        self.form = form
        self.score = Signal(Shape(form.score_bits, signed=True))
        self.maximum = Signal(Shape(EXPONENT_BITS, signed=True))
        self.p = Signal(form.bits)
        self.exceeds = Signal()

    def ports(self) -> dict[str, Signal]:
        return {port.name: port for port in (self.score, self.maximum, self.p, self.exceeds)}

    def model(self, score: Integers, maximum: Integers) -> tuple[Integers, Integers]:
        """p and exceeds."""
        return probabilities(score, maximum, self.form), (score >> self.form.fraction_bits > maximum).astype(np.int64)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, fraction_bits = self.form.bits, self.form.fraction_bits
        distance = Signal(Shape(EXPONENT_BITS + 1, signed=True))
        mantissa = Signal(bits)
        m.d.comb += [
            distance.eq(self.maximum - self.score[fraction_bits:].as_signed()),
            mantissa.eq(Array(Const(entry, bits) for entry in self.form.table().tolist())[self.score[:fraction_bits]]),
            self.exceeds.eq(distance[-1]),
        ]
        steps = (bits + 1).bit_length()
        amount = Signal(steps)
        far = Signal()
        m.d.comb += [
            far.eq(~self.exceeds & distance[steps:].any()),
            amount.eq(distance[:steps] & (~self.exceeds).replicate(steps)),
        ]
        shifted, rounded = Signal(bits + 1), Signal(bits + 1)
        m.d.comb += [
            shifted.eq(Cat(Const(0, 1), mantissa) >> amount),
            rounded.eq(shifted[1:] + shifted[0]),
            self.p.eq(rounded[:bits] & (~far).replicate(bits)),
        ]
        return m
