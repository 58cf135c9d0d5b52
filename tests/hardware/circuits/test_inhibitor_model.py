"""The circuit's numbers are those of the integer specification, attention/integer/reference.py."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inhibitor_transformers.attention.call import MaskedTensors
from inhibitor_transformers.attention.integer.qparams import BITS, Bits, QuantParams
from inhibitor_transformers.attention.integer.reference import integer_sums

pytest.importorskip("amaranth", reason="circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")

from inhibitor_transformers.hardware.circuits.inhibitor_model import (
    Configuration,
    InhibitorShape,
    Integers,
    distances,
    inhibited_sums,
)


@dataclasses.dataclass
class Case:
    """One head: q (n_q, F), k (n_k, F), v (n_k, d), and which pairs are visible, (n_q, n_k)."""

    shape: InhibitorShape
    sign: int
    delta: int
    shift: int
    q: Integers
    k: Integers
    v: Integers
    mask: np.ndarray
    causal: bool

    @property
    def keys(self) -> Integers:
        """How many keys each row sees, from the first one on."""
        every = np.full(len(self.q), len(self.k))
        return every - np.arange(len(self.q))[::-1] if self.causal else every

    @property
    def seen(self) -> np.ndarray:
        return self.mask & (np.arange(len(self.k)) < self.keys[:, None])

    def reference(self) -> Integers:
        """A, (n_q, d), by the specification: numbers that are integers already quantize to themselves."""
        one, zero = torch.ones(1), torch.zeros(1, self.shape.features)
        bits: Bits = self.shape.bits  # type: ignore[assignment]
        whole = {"sign": self.sign, "delta": self.delta, "shift": self.shift}
        qparams = QuantParams(
            bits,
            zero,
            torch.zeros(1, 0, dtype=torch.int32),
            one,
            one,
            *(torch.tensor([number], dtype=torch.int32) for number in whole.values()),
            scale=one,
            length_exponent=one,
        )
        q, k, v = (torch.from_numpy(x).float()[None, None] for x in (self.q, self.k, self.v))
        center = "mean" if self.shape.centered else "none"
        mask = torch.from_numpy(self.mask)[None, None]
        call = MaskedTensors(q, k, v, None, mask, is_causal=self.causal, signed=True, center=center)
        sums: Tensor = integer_sums(call, qparams)
        return sums[0, 0].numpy()


def make_case(
    shape: InhibitorShape,
    sign: int,
    delta: int,
    shift: int,
    *,
    queries: int,
    keys: int,
    causal: bool = False,
    seed: int = 0,
) -> Case:
    generator = np.random.default_rng(seed)
    top = 1 << shape.bits
    q, k = generator.integers(0, top, (queries, shape.features)), generator.integers(0, top, (keys, shape.features))
    q[:1], k[:1] = 0, top - 1  # as far apart as can be
    v = generator.integers(-shape.qmax, shape.qmax + 1, (keys, shape.values))
    v[:1] = shape.qmax
    mask = generator.random((queries, keys)) < 0.8
    mask[-1] = queries == 1
    return Case(shape, sign, delta, shift, q, k, v, mask, causal)


def sums(case: Case) -> Integers:
    configuration = Configuration.of(case.shape, case.sign, case.delta, case.shift)
    low, high = case.shape.shift_range
    assert low <= configuration.shift <= high
    z = configuration.scores(case.shape, distances(case.q, case.k), case.seen)
    return inhibited_sums(z, case.v)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(BITS),
    st.sampled_from([-1, 0, 1]),
    st.integers(-(2**30), 2**30) | st.integers(-3000, 3000),
    st.integers(-15, 22),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
def test_every_number_of_the_specification(
    bits: Bits, sign: int, delta: int, shift: int, centered: bool, causal: bool, seed: int
) -> None:
    """Also those that a circuit folds into others, with all scores inside its width."""
    shape = InhibitorShape(bits, features=3, values=2, lanes=4, keys=8, centered=centered)
    case = make_case(shape, sign, delta, shift, queries=4, keys=7, causal=causal, seed=seed)
    np.testing.assert_array_equal(sums(case), case.reference())
    bias = Configuration.of(shape, sign, delta, shift).bias
    largest = shape.features * ((1 << bits) - 1)
    limit = 1 << (shape.score_bits - 1)
    assert -limit <= bias - (largest if centered else 0)
    assert bias + largest < limit


@pytest.mark.parametrize("centered", [False, True])
def test_a_small_shifter_serves_its_range_and_says_what_it_does_not(centered: bool) -> None:
    shape = InhibitorShape(8, features=8, values=4, lanes=8, keys=32, centered=centered, shifts=(0, 4))
    for shift in range(5):
        case = make_case(shape, 1, 300, shift, queries=5, keys=9)
        np.testing.assert_array_equal(sums(case), case.reference())
    for shift in (-1, 5):
        with pytest.raises(ValueError, match=r"shifts from 0 to 4 does not serve sign 1, shift"):
            Configuration.of(shape, 1, 0, shift)
    everything = make_case(shape, 1, -(2**20), 9, queries=3, keys=9)  # all scores are zero, whatever the shift
    np.testing.assert_array_equal(sums(everything), everything.reference())


def test_widths() -> None:
    """8 bits, 32 features: a distance takes 13 bits, 512 inhibited values 17 with their sign."""
    shape = InhibitorShape(8, features=32, values=32)
    assert (shape.key_sum_bits, shape.distance_bits, shape.accumulator_bits) == (13, 14, 17)
    assert shape.shift_range == (-7, 13)
    assert [shape.blocks(keys) for keys in (0, 1, 32, 33, 512)] == [1, 1, 1, 2, 16]
