"""The mean of a row's distances, rounded half up: a sum, and a division that takes one cycle a bit of the mean."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Shape, Signal, Value

from .head_size import Integers
from .trees import Adder


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
        count = Signal(count_bits, reset_less=True)
        low, high = Signal(self.bits, reset_less=True), Signal(count_bits, reset_less=True)
        # Numbers count from the smallest one, −2^(bits−1), so that sum, remainder and quotient are not negative.
        natural = Cat(self.x[:-1], ~self.x[-1])
        added = _add(m, low, natural, count[0])
        raised = _add(m, high, Const(0, count_bits), added[-1])
        shifted = Cat(low[-1], high)
        rest = _add(m, shifted, Cat(~count, 1), Const(1, 1))
        fits = rest[-1]
        with m.If(self.clear | self.add):
            m.d.sync += count.eq(Mux(self.clear, 0, count + 1))
        with m.If(self.clear | self.add | self.divide):
            m.d.sync += [
                low.eq(Mux(self.divide, Cat(fits, low[:-1]), Mux(self.clear, 0, added[:-1]))),
                high.eq(Mux(self.divide, Mux(fits, rest, shifted)[:count_bits], Mux(self.clear, 0, raised[:-1]))),
            ]
        m.d.comb += self.mean.eq(Cat(low[:-1], ~low[-1]).as_signed())
        return m


def _add(m: Module, a: Value, b: Value, carry: Value) -> Value:
    """a + b + carry of unsigned numbers as long as each other, and one bit longer: full adders, one after the other."""
    bits = []
    for a_bit, b_bit in zip(a, b, strict=True):
        inputs = [bit for bit in (a_bit, b_bit, carry) if not (isinstance(bit, Const) and bit.value == 0)]
        adder = Adder(*inputs)
        m.submodules += adder
        bits.append(adder.sum)
        carry = adder.carry
    return Cat(bits, carry)
