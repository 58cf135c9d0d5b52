"""The end of a softmax row: its sum's reciprocal, by one division, and one product an output.

Reciprocal   ℓ → r and n − b, a quotient's bit a cycle
Normalizer   A, r, n − b → Y, logic without registers
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Shape, Signal

from .multipliers import PRODUCTS
from .softmax_model import MAX_GAIN, Integers, SoftmaxFormat, normalized, reciprocal
from .trees import Columns


class Reciprocal(Elaboratable):
    """r = ⌊(2^(n+b+1) − 1) / ℓ⌋ by restoring division: the dividend is all ones, and its first n − 1 are less than ℓ.

    Ports: load (take over `total`, ℓ), divide (a cycle of the division: `cycles` in all), inverse (r), excess (n − b).
    """

    def __init__(self, form: SoftmaxFormat, total_bits: int) -> None:
        self.form = form
        self.cycles = form.bits + 2
        self.total = Signal(total_bits)
        self.load = Signal()
        self.divide = Signal()
        self.inverse = Signal(form.bits + 2)
        self.excess = Signal(range(total_bits - form.bits + 1))

    def ports(self) -> dict[str, Signal]:
        return {port.name: port for port in (self.total, self.load, self.divide, self.inverse, self.excess)}

    def model(self, total: Integers) -> tuple[Integers, Integers]:
        """r and n − b of ℓ ≥ 2^(b−1), or 0."""
        return reciprocal(total, self.form)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = len(self.total)
        divisor = Signal(width, reset_less=True)
        rest = Signal(width, reset_less=True)
        inverse = Signal(self.form.bits + 2, reset_less=True)
        excess = Signal(self.excess.shape(), reset_less=True)
        below_top = Cat(self.total[place + 1 :].any() for place in range(width))  # ones below the highest one of ℓ
        length = Signal(self.excess.shape())
        for more in range(1, width - self.form.bits + 1):
            with m.If(self.total[self.form.bits + more - 1]):
                m.d.comb += length.eq(more)
        difference = Signal(Shape(width + 2, signed=True))
        m.d.comb += difference.eq(Cat(1, rest) - divisor)
        fits = ~difference[-1]
        with m.If(self.load):
            m.d.sync += [divisor.eq(self.total), rest.eq(below_top), excess.eq(length)]
        with m.Elif(self.divide):
            m.d.sync += [
                rest.eq(Mux(fits, difference[:width], Cat(1, rest)[:width])),
                inverse.eq(Cat(fits, inverse)[: len(inverse)]),
            ]
        m.d.comb += [self.inverse.eq(inverse), self.excess.eq(excess)]
        return m


class Normalizer(Elaboratable):
    """Y. Ports: output (A, signed), inverse, excess, gain (held: one a head), y (signed, b bits)."""

    def __init__(self, form: SoftmaxFormat, output_bits: int, excess_bits: int) -> None:
        self.form = form
        self.output = Signal(Shape(output_bits, signed=True))
        self.inverse = Signal(form.bits + 2)
        self.excess = Signal(excess_bits)
        self.gain = Signal(range(MAX_GAIN + 1))
        self.y = Signal(Shape(form.bits, signed=True))

    def ports(self) -> dict[str, Signal]:
        return {port.name: port for port in (self.output, self.inverse, self.excess, self.gain, self.y)}

    def model(self, output: Integers, inverse: Integers, excess: Integers, gain: Integers) -> Integers:
        return normalized(output, inverse, excess, gain, self.form)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.form.bits
        scaled = Signal(Shape(2 * bits, signed=True))  # |A| < 2^(b−1)·ℓ, and ℓ < 2^n
        m.d.comb += scaled.eq(self.output >> self.excess)
        columns = Columns(3 * bits + 2)
        PRODUCTS["baugh_wooley"](m, columns, self.inverse, scaled)
        product = Signal(Shape(3 * bits + 2, signed=True))
        m.d.comb += product.eq(columns.reduce(m).as_signed())
        doubled = Signal(Shape(bits + 2 + MAX_GAIN, signed=True))
        rounded = Signal(doubled.shape())
        m.d.comb += [
            doubled.eq(product[2 * bits - MAX_GAIN :].as_signed() >> ~self.gain),  # MAX_GAIN − g
            rounded.eq((doubled + 1) >> 1),
        ]
        with m.If(rounded > self.form.top):
            m.d.comb += self.y.eq(self.form.top)
        with m.Elif(rounded < -self.form.top):
            m.d.comb += self.y.eq(-self.form.top)
        with m.Else():
            m.d.comb += self.y.eq(rounded)
        return m
