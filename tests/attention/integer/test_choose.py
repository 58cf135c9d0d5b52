"""Steps that are a power of two apart, and features that are split."""

from __future__ import annotations

import itertools

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from inhibitor_transformers.attention.integer.choose import choose_steps, split_features

SHIFTS = (-15, 22)
widths = st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=4)


@hypothesis.given(widths, st.integers(0, 5))
def test_no_other_split_is_finer(ranges, extra):
    high = torch.tensor([ranges], dtype=torch.float64)
    split = split_features(torch.zeros_like(high), high, len(ranges) + extra)
    assert split.counts.min() >= 1
    assert int(split.counts.sum()) == len(ranges) + extra
    counts = itertools.product(range(1, extra + 2), repeat=len(ranges))
    best = min(
        max(r / n for r, n in zip(ranges, count, strict=True)) for count in counts if sum(count) == len(ranges) + extra
    )
    assert float(split.width) == pytest.approx(best or 1.0)


@hypothesis.given(widths, st.integers(0, 5))
def test_the_parts_of_a_feature_adjoin_about_its_middle(ranges, extra):
    low = -torch.tensor([ranges, ranges[::-1]], dtype=torch.float64)
    high = low.abs() * 2
    split = split_features(low, high, len(ranges) + extra)
    begins, source = split.ranges(low, high, split.width)
    assert begins.shape == (2, len(ranges) + extra)
    for head, feature in itertools.product(range(2), range(len(ranges))):
        parts = torch.cat([begins[head, [feature]], begins[head, len(ranges) :][source[head] == feature]])
        assert len(parts) == split.counts[head, feature]
        torch.testing.assert_close(parts.diff(), split.width[head].expand(len(parts) - 1))
        ends = parts[0], parts[-1] + split.width[head]
        assert float(sum(ends)) == pytest.approx(float(low[head, feature] + high[head, feature]), abs=1e-9)


positive = st.floats(1e-6, 1e6)


@hypothesis.given(positive, positive, st.one_of(st.just(0.0), st.floats(1e-12, 1e12)))
def test_one_step_is_stretched(feature, value, slope):
    made = choose_steps(*(torch.tensor([x], dtype=torch.float64) for x in (feature, value, slope)), shifts=SHIFTS)
    shift = int(made.shift)
    assert SHIFTS[0] <= shift <= SHIFTS[1]
    stretched = float(made.feature) / feature, float(made.value) / value
    assert min(stretched) >= 1 - 1e-9
    if slope == 0 or shift == SHIFTS[0]:
        assert stretched == pytest.approx((1, 1), rel=0.5)
        return
    assert slope * float(made.feature) * 2.0**shift == pytest.approx(float(made.value))
    assert float(made.value) / value < 2**0.5 + 1e-6
    if shift < SHIFTS[1]:
        assert stretched[0] < 2**0.5 + 1e-6
        assert min(stretched) < 1 + 1e-9


@hypothesis.given(st.lists(positive, min_size=3, max_size=3), st.lists(positive, min_size=3, max_size=3))
def test_heads_that_share_keys_stretch_their_values(values, slopes):
    value, slope = (torch.tensor(x, dtype=torch.float64) for x in (values, slopes))
    made = choose_steps(torch.ones(1, dtype=torch.float64), value, slope, shifts=SHIFTS)
    inside = made.shift > SHIFTS[0]
    torch.testing.assert_close((slope * made.feature * 2.0**made.shift)[inside], made.value[inside], rtol=1e-6, atol=0)
    assert (made.value >= value).all()
    assert (made.value[inside] <= 2 * value[inside] * (1 + 1e-6)).all()
