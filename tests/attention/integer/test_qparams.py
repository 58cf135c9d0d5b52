"""Quantization parameters: what ranges become, and what is refused because it would not be exact."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from inhibitor_transformers.attention.integer import QuantParams
from inhibitor_transformers.attention.integer.qparams import MAX_DISTANCE, PRECISIONS
from inhibitor_transformers.attention.integer.quantize import quantize_features, quantize_values

SCALARS = {
    "gamma": torch.tensor([1.0, 0.5, -2.0, 0.25]),
    "eta": torch.tensor([0.1, 1.0, 2.0, -1.0]),
    "delta": torch.tensor([0.5, 0.0, -0.5, 2.0]),
    "length_exponent": torch.tensor([0.0, 0.5, 1.0, 0.75]),
}


def made(bits=8, dim=8, **changes) -> QuantParams:
    torch.manual_seed(0)
    low, width = torch.randn(2, dim), torch.rand(2, dim) * 4 + 0.01
    ranges = {"low": low, "high": low + width, "value_range": torch.tensor([3.0, 0.5])}
    return QuantParams.from_ranges(**(ranges | SCALARS | changes), bits=bits)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("dim", [1, 8, 64, 256])
def test_quantized_values_cover_the_range_by_half_a_step(bits, dim):
    qparams = made(bits, dim)
    torch.manual_seed(0)
    low, width = torch.randn(2, dim), torch.rand(2, dim) * 4 + 0.01
    x = low[:, None] + width[:, None] * torch.linspace(0, 1, 99)[:, None]  # (Hkv, 99, D)
    quantized = quantize_features(x[None], qparams)[0]
    assert quantized.min() >= 0
    assert quantized.max() <= qparams.precision.qmax
    step = 1 / qparams.inverse_step
    back = quantized * step[:, None] + qparams.offset[:, None]
    assert ((back - x).abs() / step[:, None]).max() < 0.5 + 2e-3 * bits  # float32 of offsets far from zero
    # A step is a whole multiple, the weight, of what all dimensions of a head share.
    unit = step / qparams.weight
    assert torch.allclose(unit, unit[:, :1].expand_as(unit), rtol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_every_head_uses_the_whole_range(bits):
    """The widest dimension of each has the largest weight, however narrow it is beside those of other heads."""
    low, high = torch.zeros(2, 8), torch.rand(2, 8)
    high[0] *= 1000
    qparams = made(bits, low=low, high=high, delta=torch.zeros(4))
    assert qparams.weight.amax(-1).tolist() == [PRECISIONS[bits].largest_weight(8)] * 2
    assert qparams.weight.argmax(-1).tolist() == high.argmax(-1).tolist()


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_makes_no_weight_too_large(bits):
    """Of some ranges r, r/(r/n) is a little more than n."""
    torch.manual_seed(0)
    heads = 2000
    one, high = torch.ones(heads), torch.rand(heads, 1)
    scalars = dict.fromkeys(("gamma", "eta", "length_exponent"), one)
    qparams = QuantParams.from_ranges(-high, high, one, **scalars, delta=0 * one, bits=bits)
    assert set(qparams.weight.flatten().tolist()) == {PRECISIONS[bits].largest_weight(1)}


def test_values_use_the_whole_range():
    qparams = made(8)
    v = torch.tensor([[3.0, -3.0, 0.0], [0.5, -0.5, 0.25]]).view(1, 2, 3, 1)
    assert quantize_values(v, qparams).flatten().tolist() == [127, -127, 0, 127, -127, 64]


@pytest.mark.parametrize(("bits", "most", "qmax"), [(8, 2**18, 127), (16, 2**30, 32767)])
def test_a_tiny_gamma_makes_the_step_larger_instead_of_losing_delta(bits, most, qmax):
    qparams = made(bits, gamma=torch.full((4,), 1e-9), delta=torch.full((4,), 0.25))
    assert int(qparams.delta.max()) == most  # and no larger than it must be
    z = (qparams.delta.long() * qparams.multiplier.long()) >> qparams.shift.long()
    in_value = 0.25 / torch.tensor([3.0, 3.0, 0.5, 0.5]) * qmax
    assert (z - in_value).abs().max() <= 1


def test_without_gamma_scores_are_delta():
    qparams = made(16, gamma=torch.zeros(4))
    assert qparams.sign.tolist() == [0] * 4
    z = (qparams.delta.double() * qparams.multiplier) / 2.0 ** qparams.shift.double()
    expected = SCALARS["delta"] / torch.tensor([3.0, 3.0, 0.5, 0.5]) * 32767
    assert (z - expected).abs().max() <= 0.6


def test_factors_are_those_of_the_length():
    qparams = made(8)
    counts = torch.tensor([1, 64, 600])
    step = torch.tensor([3.0, 3.0, 0.5, 0.5]) / 127
    expected = (SCALARS["eta"] * step)[:, None] * (64 / counts) ** SCALARS["length_exponent"][:, None]
    assert torch.allclose(qparams.factors(600)[:, counts], expected, rtol=1e-6)
    assert qparams.factors(10).shape == (4, 11)
    assert torch.equal(qparams.factors(2000)[:, :601], qparams.factors(600))


def test_ranges_of_nothing():
    qparams = made(8, low=torch.ones(2, 8), high=torch.ones(2, 8), value_range=torch.zeros(2))
    x = torch.ones(1, 2, 1, 8)
    assert (quantize_features(x, qparams) - 127.5).abs().max() <= 0.5
    assert quantize_values(torch.zeros(1, 2, 1, 3), qparams).abs().max() == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bits", 4, r"bits must be one of \[8, 16\], got 4"),
        ("offset", torch.zeros(2, 8, dtype=torch.float64), r"offset must be contiguous \(2, 8\) torch.float32"),
        (
            "weight",
            torch.ones(2, 7, dtype=torch.int32),
            r"weight must be contiguous \(2, 8\) torch.int32, got \(2, 7\)",
        ),
        ("weight", torch.full((2, 8), 65, dtype=torch.int32), r"weight must lie in \[1, 64\]"),
        ("weight", torch.zeros(2, 8, dtype=torch.int32), r"weight must lie in \[1, 64\]"),
        ("sign", torch.full((4,), 2, dtype=torch.int32), r"sign must lie in \[-1, 1\]"),
        ("sign", torch.ones(3, dtype=torch.int32), "3 query heads must be a multiple|delta must be"),
        ("delta", torch.full((4,), 2**30 + 1, dtype=torch.int32), "delta must lie in"),
        ("multiplier", torch.full((4,), -1, dtype=torch.int32), "multiplier must lie in"),
        ("multiplier", torch.full((4,), 2**30 + 1, dtype=torch.int32), r"multiplier must lie in \[0, 1073741824\]"),
        ("shift", torch.full((4,), 24, dtype=torch.int32), r"shift must lie in \[23, 23\]"),
        ("scale", torch.full((4,), float("nan")), "scale must be finite"),
        ("length_reference", 0.0, "length_reference must be a positive number"),
    ],
)
def test_what_would_not_be_exact_is_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        replace(made(8), **{name: value})


@pytest.mark.parametrize(
    ("bits", "name", "bounds"),
    [
        (8, "weight", (1, 64)),
        (8, "sign", (-1, 1)),
        (8, "delta", (-(2**30), 2**30)),
        (8, "multiplier", (0, 2**30)),
        (16, "weight", (1, 4096)),
        (16, "multiplier", (0, 2**31 - 1)),
        (16, "shift", (0, 46)),
    ],
)
def test_bounds_are_allowed_themselves(bits, name, bounds):
    qparams = made(bits)
    for bound in bounds:
        changed = replace(qparams, **{name: torch.full_like(getattr(qparams, name), bound)})
        assert int(getattr(changed, name).flatten()[0]) == bound


def test_distances_that_would_overflow_are_refused():
    qparams = made(16, dim=64)
    assert int(qparams.weight.sum(-1).max()) * 32767 <= MAX_DISTANCE
    with pytest.raises(ValueError, match="the weights are too large"):
        replace(qparams, weight=torch.full((2, 64), 513, dtype=torch.int32))


@pytest.mark.parametrize(("name", "wrong"), [("shift", 47), ("shift", -1), ("multiplier", -1), ("weight", 32768)])
def test_what_would_not_be_exact_in_16_bits_is_refused(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must lie in"):
        replace(made(16), **{name: torch.full_like(getattr(made(16), name), wrong)})


def test_of_very_many_features_each_weighs_one():
    """The most that distances hold in 16 bits, and one more."""
    assert set(made(16, dim=32_769).weight.flatten().tolist()) == {1}
    with pytest.raises(ValueError, match="the weights are too large"):
        made(16, dim=32_770)


def test_query_heads_that_no_key_head_divides_are_refused():
    qparams = made(8)
    per_head = ("sign", "delta", "multiplier", "shift", "scale", "length_exponent")
    with pytest.raises(ValueError, match=r"3 query heads must be a multiple of .* \(2, 8\) offsets"):
        replace(qparams, **{name: getattr(qparams, name)[:3] for name in per_head})


@pytest.mark.parametrize(("bits", "largest"), [(8, 2**30), (16, 2**31 - 1)])
def test_a_huge_gamma_lets_nothing_pass_but_what_lies_at_the_mean(bits, largest):
    qparams = made(bits, gamma=torch.full((4,), 1e15))
    assert qparams.multiplier.tolist() == [largest] * 4
    assert (largest >> qparams.shift >= qparams.precision.value_qmax).all()


def test_every_tensor_is_checked():
    qparams = made(8)
    for field in fields(qparams):
        tensor = getattr(qparams, field.name)
        if isinstance(tensor, torch.Tensor):
            with pytest.raises(ValueError, match="must be"):
                replace(qparams, **{field.name: tensor[..., None]})
