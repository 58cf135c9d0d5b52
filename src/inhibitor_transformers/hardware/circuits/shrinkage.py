"""The inhibited sum of a feature's values, Σ sign(v)·max(|v| − z, 0), in the forms among which the cheapest serves.

v comes as a sign bit above a magnitude. z < 2^(b−1) is held while the features of a block of keys are streamed, and
comes inverted, as ~z: the circuit that makes it gives either for the same price, and a − b is a + ~b + 1.

    subtract   |v| − z where it is not negative, else 0. A negative term −t is ~t + 1 − 2^(b−1) in b − 1 bits: the lanes
               of such terms are counted, n, and −(2^(b−1) − 1)·n added once
    min        sign(v)·max(|v| − z, 0) = sign(v)·|v| − sign(v)·min(|v|, z): a comparator and a multiplexer a lane. The
               first sum depends on the feature alone: the same circuit makes it, with z at its largest

An unsigned sum, Σ max(v − z, 0), is the signed one of max(v, 0).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Shape, Signal, Value

from .distance import minimum
from .head_size import Integers
from .registers import register
from .trees import Adder, Columns

Form = Literal["subtract", "min"]
FORMS: tuple[Form, ...] = get_args(Form)


class Shrinkage(Elaboratable):
    """The sum over `lanes` keys.

    subtract: total = addend + Σ sign(v)·max(|v| − z, 0). min: total = addend + Σ (min(|v|, z) or, where v ≥ 0, its
    inverse), so that total(z) − total(2^(b−1) − 1) is the inhibited sum.

    Ports: v0 …, not_z0 …, addend (with a width), total (signed in the subtract form); retimed also `enable`.

    Args:
        bits: of v with its sign; z has one less.
        lanes: keys of a block.
        width: of addend and total; None: no addend, and as many bits as the sum needs.
        retimed: (subtract form) the registers of v are behind the lanes, not in front (`Registered`): terms are taken
            over at edges with `enable`. A term's word is clocked only if it or its successor is not zero: most are
            zero; and the tree starts from signals that change once a cycle, instead of glitching with the subtractors.
    """

    def __init__(
        self, bits: int, lanes: int, form: Form = "subtract", *, width: int | None = None, retimed: bool = False
    ) -> None:
        if retimed and form != "subtract":
            raise ValueError(f"registers behind the terms need form 'subtract', got {form!r}")
        self.bits, self.lanes, self.form, self.retimed = bits, lanes, form, retimed
        self.v = [Signal(bits, name=f"v{i}") for i in range(lanes)]
        self.not_z = [Signal(bits - 1, name=f"not_z{i}") for i in range(lanes)]
        self.enable = Signal()
        largest = lanes * ((1 << bits - 1) - 1)
        signed = form == "subtract"
        self.accumulates = width is not None
        self.total = Signal(Shape(width or largest.bit_length() + signed, signed=signed))
        self.addend = Signal.like(self.total)

    def ports(self) -> dict[str, Signal]:
        ports = [*self.v, *self.not_z, self.total]
        ports += [self.addend] if self.accumulates else []
        ports += [self.enable] if self.retimed else []
        return {port.name: port for port in ports}

    def encode(self, v: Integers, z: Integers) -> dict[str, Integers]:
        """(…, lanes) integers of v and z as their ports take them, (…) each."""
        words = (v < 0) << (self.bits - 1) | np.abs(v)
        inverted = (1 << (self.bits - 1)) - 1 - z
        lanes = range(self.lanes)
        return {f"v{i}": words[..., i] for i in lanes} | {f"not_z{i}": inverted[..., i] for i in lanes}

    def model(self, v: Integers, z: Integers, addend: Integers | int = 0) -> Integers:
        """(…, lanes) integers of v and z, (…) of addend → (…)."""
        if self.form == "subtract":
            terms = np.sign(v) * np.maximum(np.abs(v) - z, 0)
        else:
            least = np.minimum(np.abs(v), z)
            terms = np.where(v < 0, least, (1 << (self.bits - 1)) - 1 - least)
        total: Integers = addend + terms.sum(-1)
        return total

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns = Columns(len(self.total))
        if self.accumulates:
            columns.add(self.addend)
        negatives = []
        for v, not_z in zip(self.v, self.not_z, strict=True):
            if self.form == "min":
                columns.add(Cat(bit ^ ~v[-1] for bit in minimum(m, ~not_z, v[:-1])))
                continue
            term, negative = _shrink(m, v, not_z, self.enable if self.retimed else None)
            columns.add(term)
            negatives.append(negative)
        if negatives:
            count = _count(m, negatives)
            columns.add(count)
            columns.subtract(count, self.bits - 1)
        total = columns.reduce(m)
        m.d.comb += self.total.eq(total.as_signed() if self.form == "subtract" else total)
        return m


def _shrink(m: Module, v: Signal, not_z: Signal, enable: Signal | None) -> tuple[Value, Value]:
    """max(|v| − z, 0), inverted where it is a difference and v < 0, and whether that is so."""
    magnitude, sign = v[:-1], v[-1]
    low, *bits = zip(magnitude, not_z, strict=True)
    difference, carry = [~(low[0] ^ low[1])], low[0] | low[1]
    for a, b in bits:
        adder = Adder(a, b, carry)
        m.submodules += adder
        difference.append(adder.sum)
        carry = adder.carry
    reached, negative = Signal(), Signal()
    m.d.comb += [reached.eq(carry), negative.eq(carry & sign)]
    term = Signal(len(magnitude))
    m.d.comb += term.eq(Cat(bit & reached ^ negative for bit in difference))
    if enable is None:
        return term, negative
    used = Signal()  # the word is not zero
    wanted = Signal()
    m.d.comb += wanted.eq(enable & (reached | used))
    word = register(m, Cat(term, negative, reached), wanted)
    m.d.comb += used.eq(word[-1])
    return word[:-2], word[-2]


def _count(m: Module, bits: list[Value]) -> Signal:
    columns = Columns(len(bits).bit_length())
    for bit in bits:
        columns.add(bit)
    count = Signal(columns.width)
    m.d.comb += count.eq(columns.reduce(m))
    return count
