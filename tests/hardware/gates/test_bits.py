from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhibitor_transformers.hardware.gates.bits import from_bits, pack, to_bits, unpack


@given(st.integers(1, 200), st.integers(1, 150), st.integers(0, 2**32))
def test_wide_integers_come_back(width: int, cycles: int, seed: int) -> None:
    octets = np.random.default_rng(seed).bytes(cycles * 25)
    values = np.array([int.from_bytes(octets[25 * i : 25 * i + 25]) % 2**width for i in range(cycles)], dtype=object)
    bits = to_bits(values, width)
    assert bits.shape == (width, cycles)
    assert np.array_equal(from_bits(bits), values)
    assert np.array_equal(unpack(pack(bits), cycles), bits)


@pytest.mark.parametrize("dtype", [np.int64, object])
@pytest.mark.parametrize("width", [1, 9, 63, 64, 70])
def test_negative_integers_are_twos_complement(dtype: type, width: int) -> None:
    values = np.array([-1, -2, 0, 1], dtype=dtype)
    assert [int(v) for v in from_bits(to_bits(values, width))] == [v % 2**width for v in (-1, -2, 0, 1)]


def test_words_are_filled_up_with_the_last_cycle() -> None:
    assert pack(np.array([[0, 1], [1, 0]], dtype=np.uint8)).tolist() == [[2**64 - 2], [1]]
