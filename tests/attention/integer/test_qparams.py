"""Quantization parameters: what ranges become, and what is refused because it would not be exact."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from inhibitor_transformers.attention.integer import QuantParams
from inhibitor_transformers.attention.integer.qparams import BITS, MAX_DELTA, MAX_DISTANCE, SHIFTS
from inhibitor_transformers.attention.integer.quantize import quantize_features, quantize_values

SCALARS = {
    "gamma": torch.tensor([1.0, 0.5, -2.0, 0.25]),
    "eta": torch.tensor([0.1, 1.0, 2.0, -1.0]),
    "delta": torch.tensor([0.5, 0.0, -0.5, 2.0]),
    "length_exponent": torch.tensor([0.0, 0.5, 1.0, 0.75]),
}


RANGES = {"low": -torch.ones(2, 8), "high": torch.ones(2, 8), "value_range": torch.tensor([3.0, 3.0, 0.5, 0.5])}


def made(bits=8, dim=8, **changes) -> QuantParams:
    torch.manual_seed(0)
    low, width = torch.randn(2, dim), torch.rand(2, dim) * 4 + 0.01
    ranges = RANGES | {"low": low, "high": low + width}
    return QuantParams.from_ranges(**(ranges | SCALARS | changes), bits=bits)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dim", [1, 8, 64, 256])
def test_quantized_values_cover_the_range_by_half_a_step(bits, dim):
    qparams = made(bits, dim)
    torch.manual_seed(0)
    low, width = torch.randn(2, dim), torch.rand(2, dim) * 4 + 0.01
    x = low[:, None] + width[:, None] * torch.linspace(0, 1, 99)[:, None]  # (Hkv, 99, D)
    quantized = quantize_features(x[None], qparams)[0]
    assert quantized.min() >= 0
    assert quantized.max() <= qparams.qmax
    step = 1 / qparams.inverse_step[:, None, None]
    back = quantized * step + qparams.offset[:, None]
    assert ((back - x).abs() / step).max() < 0.5 + 2e-3 * bits  # float32 of offsets far from zero


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("heads", [2, 4])
def test_steps_are_a_power_of_two_apart(bits, heads):
    """γ/√D · step of q is 2^−s steps of v, at less than twice the steps that the ranges ask for."""
    scalars = {name: t[:heads] for name, t in SCALARS.items()}
    value_range = torch.tensor([3.0, 3.0, 0.5, 0.5])[:heads]
    qparams = made(bits, value_range=value_range, **scalars)
    slope = scalars["gamma"].abs() / 8**0.5
    ratio = slope / qparams.inverse_step.repeat_interleave(heads // 2) * qparams.value_inverse_step
    torch.testing.assert_close(ratio, 2.0 ** -qparams.shift.float())
    torch.manual_seed(0)
    least = (torch.randn(2, 8) * 0 + torch.rand(2, 8) * 4 + 0.01).amax(-1) / qparams.qmax
    stretched = (1 / qparams.inverse_step / least, 1 / qparams.value_inverse_step / value_range * qparams.value_qmax)
    most = 2**0.5 if heads == 2 else 2.0
    for factor in stretched:
        assert (factor > 0.999).all()
        assert (factor < most * 1.001).all()
    if heads == 2:  # only one of the two is stretched
        assert torch.minimum(*stretched).allclose(torch.ones(2), rtol=1e-3)


@pytest.mark.parametrize(("features", "width"), [(8, 4.0), (9, 2.0), (11, 1.0), (22, 0.5)])
def test_wide_features_are_split(features, width):
    """A step is as fine as the widest part of a feature allows."""
    high = torch.ones(2, 8) / 2
    high[:, 3] = 2.0
    scalars = SCALARS | {"gamma": torch.zeros(4)}  # whose steps have nothing to agree with
    qparams = made(low=-high, high=high, features=features, **scalars)
    assert torch.allclose(1 / qparams.inverse_step, torch.full((2,), width / 255))
    assert (qparams.offset.shape[1], qparams.dim) == (features, 8)
    x = torch.linspace(-2, 2, 500)[:, None] * (torch.arange(8) == 3)
    levels = quantize_features(x.expand(1, 2, -1, -1), qparams)
    assert (levels[0, :, 1:] - levels[0, :, :-1]).sum(-1).min() >= 0
    assert (levels[0, 0, -1] - levels[0, 0, 0]).sum() == round(4.0 / width * 255)


def test_fewer_features_than_there_are_are_refused():
    with pytest.raises(ValueError, match="features must be at least the 8 of queries and keys, got 7"):
        made(features=7)


def test_values_use_the_whole_range():
    qparams = made(8, gamma=torch.zeros(4))
    v = torch.tensor([[3.0, -3.0, 0.0], [0.5, -0.5, 0.25]]).view(1, 2, 3, 1)
    assert quantize_values(v, qparams).flatten().tolist() == [127, -127, 0, 127, -127, 0, 127, -127, 64, 127, -127, 64]


@pytest.mark.parametrize(("bits", "most"), [(8, 22), (16, 14), (4, 22)])
def test_a_tiny_gamma_makes_the_step_larger_instead_of_losing_delta(bits, most):
    qparams = made(bits, gamma=torch.full((4,), 1e-9), delta=torch.full((4,), 0.25))
    assert int(qparams.shift.max()) == most
    z = (qparams.delta.double() / 2.0 ** qparams.shift.double()).round()
    assert (z - 0.25 * qparams.value_inverse_step).abs().max() <= 0.51


def test_a_delta_beyond_all_values_lets_nothing_pass():
    for bits in BITS:
        qparams = made(bits, gamma=torch.full((4,), 1e-9), delta=torch.full((4,), 1e9))
        least = qparams.delta.long() - MAX_DISTANCE  # whatever the distance
        assert (least >> qparams.shift >= qparams.value_qmax).all()


def test_without_gamma_scores_are_delta():
    qparams = made(16, gamma=torch.zeros(4))
    assert qparams.sign.tolist() == qparams.shift.tolist() == [0] * 4
    expected = SCALARS["delta"] / torch.tensor([3.0, 3.0, 0.5, 0.5]) * 32767
    assert (qparams.delta - expected).abs().max() <= 0.5


def test_factors_are_those_of_the_length():
    qparams = made(8)
    counts = torch.tensor([1, 64, 600])
    step = 1 / qparams.value_inverse_step
    expected = (SCALARS["eta"] * step)[:, None] * (64 / counts) ** SCALARS["length_exponent"][:, None]
    assert torch.allclose(qparams.factors(600)[:, counts], expected, rtol=1e-6)
    assert qparams.factors(10).shape == (4, 11)
    assert torch.equal(qparams.factors(2000)[:, :601], qparams.factors(600))


def test_ranges_of_nothing():
    qparams = made(8, low=torch.ones(2, 8), high=torch.ones(2, 8), value_range=torch.zeros(4))
    x = torch.ones(1, 2, 1, 8)
    assert (quantize_features(x, qparams) - 127.5).abs().max() <= 0.5
    assert quantize_values(torch.zeros(1, 2, 1, 3), qparams).abs().max() == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bits", 7, r"bits must be one of \[3, 4, 5, 6, 8, 16\], got 7"),
        ("bits", 8.0, r"bits must be one of \[3, 4, 5, 6, 8, 16\], got 8.0"),
        ("offset", torch.zeros(2, 8, dtype=torch.float64), r"offset must be contiguous \(2, 8\) torch.float32"),
        ("inverse_step", torch.ones(3), r"inverse_step must be contiguous \(2,\) torch.float32, got \(3,\)"),
        ("inverse_step", torch.zeros(2), "inverse_step must be positive"),
        ("value_inverse_step", -torch.ones(4), "value_inverse_step must be positive"),
        ("source", torch.zeros(1, 2, dtype=torch.int32), r"source must be contiguous \(2, 2\) torch.int32"),
        ("source", torch.full((2, 2), 6, dtype=torch.int32), r"source must lie in \[0, 5\]"),
        ("source", torch.zeros(2, 8, dtype=torch.int32), "of which 8 belong to split features"),
        ("sign", torch.full((4,), 2, dtype=torch.int32), r"sign must lie in \[-1, 1\]"),
        ("sign", torch.ones(3, dtype=torch.int32), "must be contiguous"),
        ("delta", torch.full((4,), 2**30 + 1, dtype=torch.int32), "delta must lie in"),
        ("shift", torch.full((4,), 23, dtype=torch.int32), r"shift must lie in \[-15, 22\]"),
        ("shift", torch.full((4,), -16, dtype=torch.int32), r"shift must lie in \[-15, 22\]"),
        ("scale", torch.full((4,), float("nan")), "scale must be finite"),
        ("length_reference", 0.0, "length_reference must be a positive number"),
    ],
)
def test_what_would_not_be_exact_is_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        replace(made(8), **{name: value})


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("name", "bounds"), [("sign", (-1, 1)), ("delta", (-MAX_DELTA, MAX_DELTA)), ("shift", SHIFTS)])
def test_bounds_are_allowed_themselves(bits, name, bounds):
    qparams = made(bits)
    for bound in bounds:
        changed = replace(qparams, **{name: torch.full_like(getattr(qparams, name), bound)})
        assert int(getattr(changed, name).flatten()[0]) == bound


@pytest.mark.parametrize("bits", [8, 16])
def test_distances_that_would_overflow_are_refused(bits):
    """The most features that a distance holds, and one more."""
    most = MAX_DISTANCE // (2**bits - 1)
    narrow = {name: torch.zeros(1, most + 1) for name in ("low", "high")}
    one = dict.fromkeys(("value_range", *SCALARS), torch.ones(1))
    with pytest.raises(ValueError, match=f"a distance could reach .*, more than {MAX_DISTANCE}: too many features"):
        QuantParams.from_ranges(**narrow, **one, bits=bits)
    narrow = {name: t[:, 1:] for name, t in narrow.items()}
    assert QuantParams.from_ranges(**narrow, **one, bits=bits).dim == most


def test_query_heads_that_no_key_head_divides_are_refused():
    qparams = made(8)
    per_head = ("value_inverse_step", "sign", "delta", "shift", "scale", "length_exponent")
    with pytest.raises(ValueError, match=r"3 query heads must be a multiple of .* \(2, 8\) offsets"):
        replace(qparams, **{name: getattr(qparams, name)[:3] for name in per_head})


@pytest.mark.parametrize("bits", BITS)
def test_a_huge_gamma_lets_nothing_pass_but_what_lies_at_the_mean(bits):
    qparams = made(bits, gamma=torch.full((4,), 1e15))
    assert qparams.shift.tolist() == [SHIFTS[0]] * 4
    assert 2 ** -SHIFTS[0] > qparams.value_qmax


def test_every_tensor_is_checked():
    qparams = made(8)
    for field in fields(qparams):
        tensor = getattr(qparams, field.name)
        if isinstance(tensor, torch.Tensor):
            with pytest.raises(ValueError, match="must be"):
                replace(qparams, **{field.name: tensor[..., None]})
