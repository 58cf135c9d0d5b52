"""Score → z: sign, ReLU, a rounding shift and saturation; the half for the rounding is part of the score already."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Shape, Signal, Value

from .head_size import Integers


class Rescale(Elaboratable):
    """z = min(⌊max(y, 0) / 2^s⌋, 2^(b−1) − 1) for y = score, or its inverse −score − 1 where `negative`.

    Ports: score (signed), negative, shift (s − low), not_z: z inverted.

    Args:
        bits: b.
        score_bits: of `score`.
        shifts: low and high, the range of s; all other numbers of a shifter are left out.
    """

    def __init__(self, bits: int, score_bits: int, shifts: tuple[int, int]) -> None:
        self.bits, self.shifts = bits, shifts
        self.score = Signal(Shape(score_bits, signed=True))
        self.negative = Signal()
        self.shift = Signal((shifts[1] - shifts[0]).bit_length())
        self.not_z = Signal(bits - 1)

    def ports(self) -> dict[str, Signal]:
        return {port.name: port for port in (self.score, self.negative, self.shift, self.not_z)}

    def model(self, score: Integers, negative: Integers | int, shift: Integers | int) -> Integers:
        """not_z."""
        qmax = (1 << (self.bits - 1)) - 1
        y = np.maximum(np.where(negative, ~score, score), 0)
        s = np.asarray(shift) + self.shifts[0]
        inverted: Integers = qmax - np.minimum(y << np.maximum(-s, 0) >> np.maximum(s, 0), qmax)
        return inverted

    def elaborate(self, platform: object) -> Module:
        m = Module()
        y = Signal(len(self.score))
        m.d.comb += y.eq(Cat(bit ^ self.negative for bit in self.score))
        low = self.shifts[0]
        z, overflow = _saturating_shift(m, y[:-1] << -low if low < 0 else y[:-1] >> low, self.shift, self.bits - 1)
        m.d.comb += self.not_z.eq(Cat(y[-1] | ~(bit | overflow) for bit in z))
        return m


def _saturating_shift(m: Module, value: Value, amount: Signal, width: int) -> tuple[Value, Value]:
    """The lowest `width` bits of value >> amount, and whether there are others.

    The longest shift comes first: what later ones cannot reach any more is not carried on, only whether it is zero.
    """
    overflows: list[Value] = []
    for place in reversed(range(len(amount))):
        shifted = Signal(len(value), name=f"shifted_by_{1 << place}")
        m.d.comb += shifted.eq(Mux(amount[place], value >> (1 << place), value))
        reachable = width + (1 << place) - 1
        overflows.append(shifted[reachable:].any())
        value = shifted[:reachable]
    overflows.append(value[width:].any())
    overflow = Signal()
    m.d.comb += overflow.eq(Cat(overflows).any())
    return Cat(*value, *[0] * width)[:width], overflow
