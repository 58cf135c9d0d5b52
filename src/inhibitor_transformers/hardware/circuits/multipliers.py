"""Dot products of integers, in the forms among which the cheapest one serves as the baseline.

One operand is held while the other is streamed (a row of q against all keys; probabilities against all features), so
what depends on the held operand alone, as Booth's digits, settles once and costs no energy afterwards.

Every form but `plain` puts the partial products of all lanes in one carry-save tree, corrections included: there is
one carry chain in a dot product, not one a lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Shape, Signal, Value

from .head_size import Integers
from .registers import register
from .trees import Columns

Form = Literal["plain", "baugh_wooley", "booth", "sign_magnitude"]
Registers = Literal["none", "streamed", "operands"]
FORMS: tuple[Form, ...] = get_args(Form)

ADDEND_SETTLED = 15  # of a full adder's thirds: a memory or a shifter is in front of it


class Operand(NamedTuple):
    """Integers of a dot product: −(2^(bits−1) − 1) … 2^(bits−1) − 1 if signed, 0 … 2^bits − 1 otherwise."""

    bits: int
    signed: bool

    @property
    def low(self) -> int:
        return -self.high if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - self.signed)) - 1


class DotProduct(Elaboratable):
    """Σ a_j·b_j over the lanes, or addend + Σ a_j·b_j modulo 2^width, signed.

    Ports: a0 …, b0 …, addend (with a width), total; with registers also `enable`: b is taken over at edges with it;
    and, for "operands", `load`: a is taken over at edges with it. Neither addend nor total have registers.

    Args:
        a: the held operand. b: the streamed one, signed.
        form: how it is built. In `sign_magnitude` signed operands come as a sign bit above a magnitude: see `encode`.
        width: of addend and total; None: no addend, and as many bits as the sum needs.
        registers: of none of the operands, of the streamed one, or of both.
        zero_gating: lanes whose a is 0 hold their b. It takes a clock gate a lane instead of one for 32 flip-flops: it
            pays for probabilities, of which many are 0, not for queries.
    """

    def __init__(
        self,
        lanes: int,
        a: Operand,
        b: Operand,
        form: Form,
        *,
        width: int | None = None,
        registers: Registers = "none",
        zero_gating: bool = False,
    ) -> None:
        self.lanes, self.form, self.registers, self.zero_gating = lanes, form, registers, zero_gating
        self.operands = {"a": a, "b": b}
        encoded = form == "sign_magnitude"
        self.a, self.b = (
            [Signal(Shape(o.bits, signed=o.signed and not encoded), name=f"{name}{j}") for j in range(lanes)]
            for name, o in self.operands.items()
        )
        self.accumulates = width is not None
        self.total = Signal(Shape(width or (lanes * a.high * b.high).bit_length() + 1, signed=True))
        self.addend = Signal.like(self.total)
        self.load = Signal()
        self.enable = Signal()

    def ports(self) -> dict[str, Signal]:
        ports = [*self.a, *self.b, self.total]
        ports += [self.addend] if self.accumulates else []
        ports += [] if self.registers == "none" else [self.enable]
        ports += [self.load] if self.registers == "operands" else []
        return {port.name: port for port in ports}

    def encode(self, name: str, values: Integers) -> Integers:
        """Integers as the bits of port a0 or b0 … take them."""
        if self.form != "sign_magnitude" or not self.operands[name].signed:
            return values
        sign: Integers = np.int64(1 << (self.operands[name].bits - 1)) * (values < 0)
        return sign | np.abs(values)

    def model(self, a: Integers, b: Integers, addend: Integers | int = 0) -> Integers:
        """(…, lanes) integers of a and b, (…) of addend → (…); sums that `total` holds."""
        total: Integers = addend + (a * b).sum(-1)
        return total

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns = Columns(len(self.total))
        if self.accumulates:
            columns.add(self.addend, settled=ADDEND_SETTLED)
        for a, b in zip(self.a, self.b, strict=True):
            if self.registers == "operands":
                a = register(m, a, self.load)
            if self.registers != "none":
                b = register(m, b, self.enable & a.any() if self.zero_gating else self.enable)
            if self.form == "sign_magnitude":
                _add_sign_magnitude(m, columns, a, b, signed=self.operands["a"].signed)
            else:
                PRODUCTS[self.form](m, columns, a, b)
        m.d.comb += self.total.eq(columns.reduce(m).as_signed())
        return m


def _add_plain(m: Module, columns: Columns, a: Value, b: Value) -> None:
    """A multiplier a lane, as the synthesizer builds it."""
    product = Signal(Shape(len(a) + len(b), signed=True))
    m.d.comb += product.eq(a * b)
    columns.add(product)


def _add_baugh_wooley(m: Module, columns: Columns, a: Value, b: Value) -> None:
    """Rows of ANDs. Products with one sign bit weigh negative: `Columns` turns them into NANDs and a constant."""
    for i, a_bit in enumerate(a):
        for j, b_bit in enumerate(b):
            negative = (i == len(a) - 1 and a.shape().signed) != (j == len(b) - 1 and b.shape().signed)
            (columns.subtract if negative else columns.add)(a_bit & b_bit, i + j)


def _add_booth(m: Module, columns: Columns, a: Value, b: Value) -> None:
    """Rows of −2b … 2b, one for two bits of a.

    −x is ~x + 1, with the 1 in the tree. A digit of zero gives zeros, also where its bits are 111.
    """
    signed = a.shape().signed
    none = Const(0, 1)
    bits = [none, *a, *[a[-1] if signed else none] * 2]
    for i in range((len(a) + 1) // 2 if signed else len(a) // 2 + 1):
        low, middle, high = bits[2 * i : 2 * i + 3]
        if middle is none:  # the digit is one bit
            columns.add(_settled(m, Cat(low & bit for bit in b)).as_signed(), 2 * i)
            continue
        one = _settled(m, low ^ middle)
        two = _settled(m, Mux(high, ~(low | middle), low & middle))
        negative = _settled(m, high & ~(low & middle))
        selected = [one & bit | two & below for bit, below in zip([*b, b[-1]], [none, *b], strict=True)]
        columns.add(_settled(m, Cat(bit ^ negative for bit in selected)).as_signed(), 2 * i)
        if high is not none:
            columns.add(negative, 2 * i)


def _add_sign_magnitude(m: Module, columns: Columns, a: Value, b: Value, *, signed: bool) -> None:
    """Rows ±a for the bits of |b|; ±a is a or ~a + 1, with the 1s in the tree.

    Numbers near zero have zeros in the upper bits of |b|, where two's complement has copies of a sign that flips.
    """
    magnitude, sign = b[:-1], b[-1]
    if signed:
        sign, a = a[-1] ^ sign, a[:-1]
    factor = _settled(m, Cat(*(bit ^ sign for bit in a), sign))
    for j, bit in enumerate(magnitude):
        columns.add(_settled(m, Cat(*(f & bit for f in factor))).as_signed(), j)
        columns.add(_settled(m, sign & bit), j)


def _settled(m: Module, value: Value) -> Signal:
    signal = Signal(len(value))
    m.d.comb += signal.eq(value)
    return signal


PRODUCTS: dict[Form, Callable[[Module, Columns, Value, Value], None]] = {
    "plain": _add_plain,
    "baugh_wooley": _add_baugh_wooley,
    "booth": _add_booth,
}
"""What adds a·b to columns; operands as numbers, b signed."""
