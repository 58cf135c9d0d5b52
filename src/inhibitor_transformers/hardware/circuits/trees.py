"""Carry-save trees: many numbers are added by full and half adders, and only the last two with a carry chain.

Full and half adders are cells of their own, so that a synthesizer can keep them as the library's FAX1 and HAX1, which
logic synthesis does not find by itself:

    full_adder   a, b, c → sum, carry          half_adder   a, b → sum, carry

`to_rtlil` writes both as modules with a body, so its text stands alone. In yosys they become plain gates by `flatten`,
or library cells if, before it, `techmap -map` reads

    module full_adder(input a, b, c, output sum, carry);
        FAX1 _TECHMAP_REPLACE_ (.A(a), .B(b), .C(c), .YS(sum), .YC(carry));
    endmodule
    module half_adder(input a, b, output sum, carry);
        HAX1 _TECHMAP_REPLACE_ (.A(a), .B(b), .YS(sum), .YC(carry));
    endmodule

In amaranth's simulator adders are ordinary logic.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from amaranth.hdl import Cat, Const, Elaboratable, Instance, Module, Signal, Value

CELLS = object()
"""The platform for which adders are cells instead of logic."""

SUM_DELAY, CARRY_DELAY = 3, 2  # of a full adder, in units that only compare

Bit = tuple[int, int, Value]
"""When it settles, its turn among bits that settle together, and the bit."""


class Adder(Elaboratable):
    """One bit each of two or three numbers → their sum and carry."""

    def __init__(self, *inputs: Value) -> None:
        self.inputs = inputs
        self.sum = Signal()
        self.carry = Signal()

    @property
    def cell(self) -> str:
        return "full_adder" if len(self.inputs) == 3 else "half_adder"

    def elaborate(self, platform: object) -> Module | Instance:
        if platform is CELLS:
            inputs = {f"i_{name}": bit for name, bit in zip("abc", self.inputs, strict=False)}
            return Instance(self.cell, **inputs, o_sum=self.sum, o_carry=self.carry)
        m = Module()
        if len(self.inputs) == 3:
            a, b, c = self.inputs
            m.d.comb += [self.sum.eq(a ^ b ^ c), self.carry.eq(a & b | (a ^ b) & c)]
        else:
            a, b = self.inputs
            m.d.comb += [self.sum.eq(a ^ b), self.carry.eq(a & b)]
        return m


class Columns:
    """A sum modulo 2^width, collected as bits per power of two and reduced at once.

    Signed numbers need no sign extension: their top bit, of negative weight, is inverted and a constant put right.
    All constants become one, so they cost at most one row.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._bits: list[list[tuple[int, Value]]] = [[] for _ in range(width)]
        self._constant = 0

    def add(self, value: Value, shift: int = 0, *, settled: int = 0) -> None:
        """value × 2^shift; whether it is signed is the value's own. settled: when, in units of SUM_DELAY."""
        self._add(value, shift, settled, negate=False)

    def subtract(self, value: Value, shift: int = 0, *, settled: int = 0) -> None:
        """−value × 2^shift; whether it is signed is the value's own. settled: when, in units of SUM_DELAY."""
        self._add(value, shift, settled, negate=True)

    def add_constant(self, constant: int) -> None:
        self._constant += constant

    def _add(self, value: Value, shift: int, settled: int, *, negate: bool) -> None:
        if isinstance(value, Const):
            self._constant += (-value.value if negate else value.value) << shift
            return
        width = len(value)
        for place, bit in enumerate(value, shift):
            is_sign = value.shape().signed and place == shift + width - 1
            if place >= self.width:
                break  # multiples of 2^width, the constants below included
            if is_sign != negate:  # −b = ~b − 1
                self._bits[place].append((settled, ~bit))
                self._constant -= 1 << place
            else:
                self._bits[place].append((settled, bit))

    def reduce(self, m: Module) -> Value:
        """The sum, unsigned, `width` bits; its adders become part of `m`.

        Columns are reduced from the lowest one, each to two bits at most, and always by the bits that settle first:
        such trees are as fast as their carries allow, and glitch least. What is left is one addition, whose adder is
        the synthesizer's choice.
        """
        order = count()  # among bits that settle together: first come, first served
        columns = [[(settled, next(order), bit) for settled, bit in bits] for bits in self._bits]
        columns.append([])  # what overflows
        rows: tuple[list[Value], list[Value]] = ([], [])
        for place in range(self.width):
            column, carries = columns[place], columns[place + 1]
            heapify(column)
            if self._constant >> place & 1:
                heappush(column, _absorb_one(m, column, carries, order))
            while len(column) > 2:
                settled, _, bits = zip(*(heappop(column) for _ in range(3)), strict=True)
                if place == self.width - 1:  # nobody needs the carry
                    total: Value = Signal()
                    m.d.comb += total.eq(bits[0] ^ bits[1] ^ bits[2])
                else:
                    adder = Adder(*bits)
                    m.submodules += adder
                    total = adder.sum
                    carries.append((settled[-1] + CARRY_DELAY, next(order), adder.carry))
                heappush(column, (settled[-1] + SUM_DELAY, next(order), total))
            for row, index in zip(rows, range(2), strict=True):
                row.append(column[index][2] if index < len(column) else Const(0, 1))
        return (Cat(rows[0]) + Cat(rows[1]))[: self.width]


def _absorb_one(m: Module, column: list[Bit], carries: list[Bit], order: Iterator[int]) -> Bit:
    """A constant 1 in a column: with two bits it takes an XNOR and an OR, with one bit only an inverter."""
    if not column:
        return 0, next(order), Const(1, 1)
    if len(column) == 1:
        settled, _, bit = heappop(column)
        carries.append((settled, next(order), bit))
        return settled, next(order), ~bit
    (_, _, a), (settled, _, b) = heappop(column), heappop(column)
    total, carry = Signal(), Signal()
    m.d.comb += [total.eq(~(a ^ b)), carry.eq(a | b)]
    carries.append((settled + 1, next(order), carry))
    return settled + SUM_DELAY // 2, next(order), total
