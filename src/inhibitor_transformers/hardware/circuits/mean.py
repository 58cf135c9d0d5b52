"""The mean of a row's distances, rounded half up: a sum, and a division that takes one cycle a bit of the mean."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Shape, Signal
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Mean(Elaboratable):
    """⌊(Σx + ⌊n/2⌋) / n⌋ of n signed numbers, which is their mean rounded half up; of none, any number.

    The half needs no adder of its own: every second number brings a carry of 1. The register of the sum is then, bit by
    bit from the top, that of a restoring division: a remainder above, the quotient below.

    Ports: clear (forget all numbers); add, x (one number); divide (a cycle of the division, of `cycles`); mean.

    Args:
        bits: of x and of the mean, signed.
        count: the largest n.
    """

    def __init__(self, bits: int, count: int) -> None:
        self.bits, self.count = bits, count
        self.x = Signal(Shape(bits, signed=True))
        self.clear = Signal()
        self.add = Signal()
        self.divide = Signal()
        self.mean = Signal(Shape(bits, signed=True))

    @property
    def cycles(self) -> int:
        """Of a division."""
        return self.bits

    def ports(self) -> dict[str, Signal]:
        return {port.name: port for port in (self.x, self.clear, self.add, self.divide, self.mean)}

    def model(self, x: Integers) -> Integers:
        """(…, n) → (…)."""
        n = x.shape[-1]
        mean: Integers = (x.sum(-1) + n // 2) // n
        return mean

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count_bits = self.count.bit_length()
        count, total = Signal(count_bits), Signal(self.bits + count_bits)
        # Numbers count from the smallest one, −2^(bits−1), so that sum, remainder and quotient are not negative.
        natural = Cat(self.x[:-1], ~self.x[-1])
        shifted = Signal(len(total) + 1)
        m.d.comb += shifted.eq(total << 1)
        rest = Signal(Shape(count_bits + 2, signed=True))
        m.d.comb += rest.eq(shifted[self.bits :] - count)
        fits = ~rest[-1]
        with m.If(self.clear):
            m.d.sync += [count.eq(0), total.eq(0)]
        with m.Elif(self.add):
            m.d.sync += [count.eq(count + 1), total.eq(total + natural + count[0])]
        with m.Elif(self.divide):
            top = Mux(fits, rest[:count_bits], shifted[self.bits : self.bits + count_bits])
            m.d.sync += total.eq(Cat(fits, shifted[1 : self.bits], top))
        m.d.comb += self.mean.eq(Cat(total[: self.bits - 1], ~total[self.bits - 1]).as_signed())
        return m
