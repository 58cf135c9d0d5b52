"""Manhattan distances of integers, in the forms among which the cheapest one serves.

    difference   Σ|q − k|: a subtractor a lane; where it borrows its result is inverted, and 1 is added in the tree
    min          Σ|q − k| = Σq + Σk − 2 Σ min(q, k): a comparator and a multiplexer a lane

Σk is read with the key: `key_sum`. The same circuit makes it, once per key, and Σq likewise (`Distance.sum_of`). Both
forms can add a `bias`, which is held while keys are streamed.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Shape, Signal, Value

from .head_size import Integers
from .registers import register
from .trees import Columns

Form = Literal["difference", "min"]
FORMS: tuple[Form, ...] = get_args(Form)


class Distance(Elaboratable):
    """Distances of one query from streamed keys, modulo 2^width, signed.

    difference: total = bias + Σ|q − k|. min: total = bias + key_sum − 2 Σ min(q, k), which is the same less Σq.

    Ports: q0 …, k0 …, key_sum (min), bias (with a width), total; retimed also `load` and `enable`.

    Args:
        lanes: features, F.
        bits: of q and k, unsigned.
        width: of bias and total; None: no bias, and as many bits as the distance needs.
        retimed: (min form) registers are inside, not in front (`Registered`): q and bias are taken over at edges with
            `load`, the minima and key_sum at those with `enable`. There are as many, but the tree starts from signals
            that change once a cycle, instead of glitching with the comparators.
    """

    def __init__(
        self, bits: int, lanes: int, form: Form = "min", *, width: int | None = None, retimed: bool = False
    ) -> None:
        if retimed and form != "min":
            raise ValueError(f"registers behind the minima need form 'min', got {form!r}")
        self.bits, self.lanes, self.form, self.retimed = bits, lanes, form, retimed
        self.q = [Signal(bits, name=f"q{i}") for i in range(lanes)]
        self.k = [Signal(bits, name=f"k{i}") for i in range(lanes)]
        self.key_sum = Signal(sum_bits(bits, lanes))
        self.biased = width is not None
        self.bias = Signal(Shape(width or distance_bits(bits, lanes), signed=True))
        self.load = Signal()
        self.enable = Signal()
        self.total = Signal.like(self.bias)

    def ports(self) -> dict[str, Signal]:
        ports = [*self.q, *self.k, self.total]
        ports += [self.key_sum] if self.form == "min" else []
        ports += [self.bias] if self.biased else []
        ports += [self.load, self.enable] if self.retimed else []
        return {port.name: port for port in ports}

    def model(self, q: Integers, k: Integers, *, key_sum: Integers | int = 0, bias: Integers | int = 0) -> Integers:
        """(…, lanes) integers of q and k, and (…) of bias and key_sum → (…)."""
        if self.form == "difference":
            total = bias + np.abs(q - k).sum(-1)
        else:
            total = bias + key_sum - 2 * np.minimum(q, k).sum(-1)
        return wrap(total, len(self.total))

    @property
    def sum_request(self) -> tuple[int, int]:
        """A feature of q, and key_sum, with which `total` is about Σk: min(2^b − 1, k) = k."""
        return (1 << self.bits) - 1, (1 << len(self.key_sum)) - 2

    def sum_of(self, total: Integers) -> Integers:
        """Σk from the answer to `sum_request` without bias: wires and inverters."""
        high = 1 << (len(self.key_sum) - 1)
        key_sum: Integers = (total >> 1) % (2 * high) ^ (high - 1)
        return key_sum

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def word(value: Signal, enable: Signal) -> Signal:
            return register(m, value, enable) if self.retimed else value

        columns = Columns(len(self.total))
        if self.biased:
            columns.add(word(self.bias, self.load))
        if self.form == "min":
            columns.add(word(self.key_sum, self.enable))
        for q, k in zip(self.q, self.k, strict=True):
            if self.form == "difference":
                _add_difference(m, columns, q, k)
            else:
                columns.subtract(word(minimum(m, word(q, self.load), k), self.enable), 1)
        m.d.comb += self.total.eq(columns.reduce(m).as_signed())
        return m


def sum_bits(bits: int, lanes: int) -> int:
    """Bits of Σk, unsigned."""
    return (lanes * ((1 << bits) - 1)).bit_length()


def distance_bits(bits: int, lanes: int) -> int:
    """Bits of D less Σq, signed: Σk − 2 Σ min(q, k) lies between −Σq and Σk."""
    return sum_bits(bits, lanes) + 1


def wrap(values: Integers, width: int) -> Integers:
    """Integers modulo 2^width, from −2^(width − 1) on."""
    half = 1 << (width - 1)
    wrapped: Integers = ((values + half) & ((1 << width) - 1)) - half
    return wrapped


def minimum(m: Module, held: Value, streamed: Value) -> Signal:
    """min(held, streamed), unsigned."""
    least = Signal(len(held))
    m.d.comb += least.eq(Mux(exceeds(m, held, streamed), streamed, held))
    return least


def exceeds(m: Module, a: Value, b: Value) -> Signal:
    """a > b, unsigned: the borrow of b − a, rippling from the lowest bit."""
    borrow: Value = Const(0, 1)
    for a_bit, b_bit in zip(a, b, strict=True):
        borrow = a_bit & ~b_bit | borrow & (a_bit | ~b_bit)
    result = Signal()
    m.d.comb += result.eq(borrow)
    return result


def _add_difference(m: Module, columns: Columns, a: Signal, b: Signal) -> None:
    """|a − b|: a + ~b is a − b − 1 with a carry where a > b; elsewhere it is the inverse of b − a."""
    total = Signal(len(a) + 1)
    m.d.comb += total.eq(a + (~b)[: len(b)])
    exceeded = total[-1]
    columns.add(Cat(bit ^ ~exceeded for bit in total[:-1]))
    columns.add(exceeded)
