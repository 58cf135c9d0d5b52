"""Packed levels: one table reads what several would."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.levels import Packing, level_tables


@pytest.mark.parametrize(("low", "high"), [(-2, 2), (0, 2), (-1, 3), (-4, -1)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("bits", [2, 5, 7])
def test_a_packed_table_is_the_sum_of_its_digits(low, high, count, bits):
    packing = Packing.widest(low, high, count, bits)
    assert packing.count % packing.group == 0
    assert packing.group == 1 or (high - low + 1) ** packing.group <= 2**bits
    table = packing.table(lambda x: x**3)
    for digits in product(range(low, high + 1), repeat=packing.group):
        packed = int(np.array(digits) @ packing.places[: packing.group])
        assert table.values[packed - table.first] == sum(d**3 for d in digits)
    assert packing.sums.shape == (count, count // packing.group)
    assert (packing.sums.sum(0) == packing.group).all()


def test_as_many_numbers_as_fit_share_a_table():
    assert Packing.widest(-2, 2, 8, 5).group == 2
    assert Packing.widest(-1, 1, 9, 5).group == 3
    assert Packing.widest(-1, 1, 8, 5).group == 2  # groups of one size
    assert Packing.widest(-7, 7, 8, 5).group == 1
    assert Packing.widest(-99, 99, 8, 5).group == 1  # a table will refuse it by name


def test_level_tables_round_to_even_and_clip():
    tables = level_tables(np.array([0.5, -1.0]), np.array([0.0, 1.0]), -3, 3, 0, 1)
    assert tables.tolist() == [[0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0, 0]]
