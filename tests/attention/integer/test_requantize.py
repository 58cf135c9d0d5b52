"""From integers to integers: rounding, fixed points, and what attention writes for the next layer."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import Requantize, integer_attention, reference
from inhibitor_transformers.attention.integer import functional as dispatch
from inhibitor_transformers.attention.integer.requantize import fixed_point, requantize
from tests.attention.cases import random_bools

INT32 = st.integers(-(2**31) + 1, 2**31 - 1)


@hypothesis.given(INT32, INT32, st.integers(0, 46), st.integers(0, 255))
def test_formula(x, multiplier, shift, zero_point):
    got = requantize(*(torch.tensor([t]) for t in (x, multiplier, shift)), zero_point, 255)
    half = Fraction(1, 2) if shift else 0
    expected = math.floor(Fraction(x * multiplier, 2**shift) + half) + zero_point
    assert got.tolist() == [min(max(expected, 0), 255)]


@hypothesis.given(st.floats(-1e6, 1e6).filter(lambda f: f == 0 or abs(f) > 1e-4))
def test_fixed_point(factor):
    multiplier, shift = fixed_point(torch.tensor([factor]))
    assert 0 <= int(shift) <= 46
    assert float(multiplier) / 2.0 ** int(shift) == pytest.approx(torch.tensor(factor).item(), rel=1e-6)


ENGINES = [engine for engine in dispatch.ENGINES if engine != "cpu" or library.unavailable() is None]


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_are_those_in_float_over_the_step(layer, bits, engine):
    *tensors, qparams = layer
    masks = {"key_padding_mask": random_bools(1, 2, 12)}
    exact = integer_attention(*tensors, qparams, **masks)
    qmax = 2**bits - 1
    step, zero_point = exact.abs().amax((0, 2, 3)) / (qmax // 2), qmax // 2
    output = Requantize(qparams, step, zero_point, bits)
    got = integer_attention(*tensors, qparams, **masks, requantize=output, engine=engine)
    assert got.dtype == torch.uint8
    assert got.shape == exact.shape
    assert ((got.float() - zero_point) - exact / step[:, None, None]).abs().max() <= 0.5 + 1e-3
    assert {int(got.min()), int(got.max())} & {0, qmax - 1}  # either end of the largest
    assert torch.equal(got, integer_attention(*tensors, qparams, **masks, requantize=output, engine="reference"))


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_are_clipped(layer, engine):
    *tensors, qparams = layer
    output = Requantize(qparams, torch.full((4,), 1e-6), 100)
    got = integer_attention(*tensors, qparams, requantize=output, engine=engine)
    sums = integer_attention(*tensors, qparams)
    assert torch.equal(got, torch.where(sums > 0, 255, torch.where(sums < 0, 0, 100)).to(torch.uint8))


def test_multipliers_do_not_depend_on_how_many_keys_there_are(layer):
    output = Requantize(layer[-1], torch.rand(4) + 0.1, 0)
    assert torch.equal(output.multipliers(500)[:, :13], output.multipliers(12))
    assert int(output.multipliers(500).abs().max()) > 2**28


def test_changes_in_place_are_seen(layer):
    qparams = layer[-1]
    output = Requantize(qparams, torch.rand(4) + 0.1, 0)
    assert output.multipliers(9).data_ptr() == output.multipliers(5).data_ptr()  # kept
    for tensor in (output.step, qparams.scale):
        tensor.mul_(2)
        assert torch.equal(output.multipliers(9), Requantize(qparams, output.step, 0).multipliers(9))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 7}, r"the output's bits must be one of \[3, 4, 5, 6, 8\], got 7"),
        ({"zero_point": 256}, r"zero_point must be a whole number in \[0, 255\], got 256"),
        ({"zero_point": 1.0}, r"zero_point must be a whole number in \[0, 255\], got 1.0"),
        ({"step": torch.ones(3)}, r"step must be \(4,\) torch.float32, got \(3,\)"),
        ({"step": torch.zeros(4)}, "step must be positive and finite"),
        ({"step": torch.full((4,), torch.inf)}, "step must be positive and finite"),
    ],
)
def test_what_makes_no_sense_is_refused(layer, change, said):
    made = Requantize(layer[-1], torch.ones(4), 0)
    with pytest.raises(ValueError, match=said):
        replace(made, **change)


def test_other_qparams_are_refused(layer):
    *tensors, qparams = layer
    with pytest.raises(ValueError, match="requantize was made for other QuantParams"):
        integer_attention(*tensors, qparams, requantize=Requantize(replace(qparams), torch.ones(4), 0))


def test_integers_have_no_gradient(layer):
    *tensors, qparams = layer
    tensors[0].requires_grad_()
    out = integer_attention(*tensors, qparams, requantize=Requantize(qparams, torch.ones(4), 0))
    assert not out.requires_grad  # torch gives integers none


def test_the_reference_says_what_it_serves():
    assert reference.SERVES == (3, 4, 5, 6, 8, 16)
