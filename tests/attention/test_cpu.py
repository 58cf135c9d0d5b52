"""Engine `cpu` against the reference in float64: values and gradients, all options, every instruction set."""

from __future__ import annotations

import math

import pytest
import torch

from inhibitor_transformers.attention import inhibition_scores, inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention.engine_cases import Shape, compare, error, inputs, masks, on_grid, outputs

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

SHAPES = {
    "square": Shape(2, 3, 3, 64, 64, 64, 64),
    "one": Shape(1, 1, 1, 1, 1, 1, 1),
    "odd": Shape(2, 2, 2, 63, 65, 32, 32),
    "grouped": Shape(2, 4, 2, 37, 111, 16, 40),
    "cross": Shape(1, 2, 1, 3, 130, 96, 128),
    "awkward": Shape(2, 3, 3, 33, 29, 7, 5),
    "decoding": Shape(2, 4, 1, 1, 77, 64, 64),
}
MASKS = ("none", "padding", "attn_mask", "causal", "all")


pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("center", ["mean", "none", "min"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_agrees_with_reference_on_a_grid(shape, center, signed, mask):
    tensors = inputs(shape, off_lattice=4e-6 if center == "mean" else 3e-4)
    compare(tensors, 3e-5, signed=signed, center=center, **masks(mask, shape))


def small_values(*size: int) -> torch.Tensor:
    return torch.randint(-16, 17, size).float() / 128


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("shape", [Shape(2, 2, 1, 34, 65, 64, 64), Shape(1, 2, 2, 64, 40, 16, 50)], ids=str)
def test_agrees_with_reference_where_most_pairs_give_nothing(shape, signed, mask):
    tensors = inputs(shape)
    tensors["value"] = small_values(*tensors["value"].shape)
    tensors["value"][:, :, ::3] = 0  # some keys are dead for all rows
    z = inhibition_scores(tensors["query"], tensors["key"], gamma=tensors["gamma"], delta=tensors["delta"])
    reach = tensors["value"].abs().amax(-1).repeat_interleave(shape.heads // shape.kv_heads, 1)
    dead = (z >= reach[:, :, None]).float().mean()
    assert 0.3 < dead < 0.99
    compare(tensors, 1e-4, signed=signed, **masks(mask, shape))  # sums of the scalars cancel


def mostly_dead(shape: Shape) -> dict[str, torch.Tensor]:
    """Inputs of which fewer than a quarter of the keys are alive for any of four rows: gradients are sparse."""
    tensors = inputs(shape)
    tensors["value"] = small_values(*tensors["value"].shape)
    tensors["value"][:, :, torch.arange(shape.keys) % 7 != 0] = 0
    tensors["value"][:, :, -1] = 1  # in the last, incomplete vector of keys
    z = inhibition_scores(tensors["query"], tensors["key"], gamma=tensors["gamma"], delta=tensors["delta"])
    reach = tensors["value"].abs().amax(-1).repeat_interleave(shape.heads // shape.kv_heads, 1)
    alive = (z < reach[:, :, None])[:, :, : shape.queries // 4 * 4].unflatten(2, (-1, 4)).any(3)
    assert 0.01 < alive.float().mean() < 0.22
    return tensors


SPARSE_SHAPES = {
    "whole": Shape(1, 2, 2, 64, 64, 32, 32),
    "odd": Shape(2, 4, 2, 37, 111, 16, 40),
    "narrow": Shape(2, 3, 3, 34, 63, 7, 5),
    "wide": Shape(1, 2, 1, 6, 130, 96, 128),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("shape", SPARSE_SHAPES.values(), ids=SPARSE_SHAPES.keys())
def test_sparse_gradients_agree_with_reference(shape, signed, mask):
    compare(mostly_dead(shape), 1e-4, signed=signed, **masks(mask, shape))


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_ties_of_sparse_gradients(signed):
    # Scores are multiples of 1/4 around 2, values multiples of 1/4 up to 1: many a pair is alive by a tie only.
    shape = Shape(1, 2, 2, 37, 64, 16, 17)  # the mean of 64 keys is exact
    tensors = inputs(shape, lambda *s: torch.randint(0, 2, s).float() * 2 - 1)
    tensors["value"] = torch.randint(-4, 5, tensors["value"].shape).float() / 4
    tensors["delta"] = torch.zeros(2)
    z = inhibition_scores(tensors["query"], tensors["key"], gamma=tensors["gamma"], center="none")
    reach = tensors["value"].abs().amax(-1)[:, :, None]
    assert (z == reach).float().mean() > 0.02
    assert (z < reach).float().mean() < 0.05
    compare(tensors, 3e-5, signed=signed, center="none")


def test_a_nan_row_leaves_its_neighbors_alone():
    shape = Shape(1, 1, 1, 8, 70, 16, 16)
    clean, grad = mostly_dead(shape), torch.randn(1, 1, 8, 16)
    dirty = {n: t.clone() for n, t in clean.items()}
    dirty["query"][:, :, [3, 4]] = math.nan
    others = [0, 1, 2, 5, 6, 7]
    grad[:, :, [3, 4]] = 0
    got, expected = (outputs(t, grad, "cpu", torch.float32) for t in (dirty, clean))
    for name in ("out", "query"):  # other lists, other rounding
        assert error(got[name][:, :, others], expected[name][:, :, others]) < 1e-5, name
    assert error(got["value"], expected["value"]) < 1e-5


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_agrees_with_reference_on_gaussians(shape, mask):
    # Rounding in float32 may flip a comparison of the gradient: 2e-2 of the largest is a flipped key.
    compare(inputs(shape, torch.randn), 3e-2, **masks(mask, shape))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_output_on_gaussians_is_exact_to_float32(shape):
    tensors = inputs(shape, torch.randn)
    got = inhibitor_attention(**tensors, engine="cpu")
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, engine="reference")
    assert error(got, expected) < 3e-6


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_ties_take_the_zero_subgradient(signed):
    # Two values only, and sums that are exact: every second q equals its k, and many a Z equals some |v|.
    shape = Shape(1, 2, 2, 9, 32, 16, 16)
    tensors = inputs(shape, lambda *s: torch.randint(0, 2, s).float() * 2 - 1)
    tensors["delta"] = torch.zeros(2)
    for center in ("mean", "none", "min"):
        compare(tensors, 3e-5, signed=signed, center=center, exact_ties=True)


@pytest.mark.parametrize("magnitude", [1e-30, 1e6], ids=["tiny", "huge"])
def test_scales(magnitude):
    tensors = inputs(Shape(1, 2, 2, 17, 65, 64, 64))
    for name in ("query", "key", "value", "delta"):
        tensors[name] = tensors[name] * magnitude
    compare(tensors, 1e-5)


def test_subnormals():
    tensors = inputs(Shape(1, 2, 2, 5, 33, 16, 16))
    for name in ("query", "key", "value", "delta"):
        tensors[name] = tensors[name] * 1e-38
    got = inhibitor_attention(**tensors, engine="cpu")
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, engine="reference")
    assert (got.double() - expected).abs().max() < 1e-43  # a few units of the smallest subnormal


def test_offset_keys_do_not_cost_accuracy():
    tensors = inputs(Shape(1, 2, 2, 33, 65, 64, 64), torch.randn)
    tensors["query"], tensors["key"] = tensors["query"] + 1000, tensors["key"] + 1000
    got = inhibitor_attention(**tensors, engine="cpu")
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, engine="reference")
    assert error(got, expected) < 1e-5


def test_content_of_padded_keys_changes_nothing():
    shape = Shape(2, 3, 3, 33, 65, 16, 16)
    tensors, grad = inputs(shape, torch.randn), torch.randn(2, 3, 33, 16)
    valid = torch.rand(2, 65) < 0.5
    clean = outputs(tensors, grad, "cpu", torch.float32, key_padding_mask=valid)
    for junk in (math.nan, math.inf, 1e30):
        dirty = {n: t.clone() for n, t in tensors.items()}
        for name in ("key", "value"):
            dirty[name].masked_fill_(~valid[:, None, :, None], junk)
        for name, t in outputs(dirty, grad, "cpu", torch.float32, key_padding_mask=valid).items():
            assert torch.equal(t, clean[name]), name


def test_content_of_keys_outside_a_row_mask_changes_nothing():
    """A key that only the last rows may see holds NaN: the other rows do not notice."""
    shape = Shape(1, 2, 2, 33, 33, 16, 16)
    tensors = inputs(shape, torch.randn)
    clean = inhibitor_attention(**tensors, is_causal=True, engine="cpu")
    for junk in (math.nan, math.inf, 1e30):
        dirty = {n: t.clone() for n, t in tensors.items()}
        dirty["key"][:, :, 20:] = junk
        dirty["value"][:, :, 20:] = junk
        out = inhibitor_attention(**dirty, is_causal=True, engine="cpu")
        assert torch.equal(out[:, :, :20], clean[:, :, :20])
        leaves = {n: t.requires_grad_() for n, t in dirty.items()}
        out = inhibitor_attention(**leaves, is_causal=True, engine="cpu")
        out[:, :, :20].sum().backward()
        assert leaves["key"].grad[:, :, 20:].eq(0).all()
        assert leaves["value"].grad[:, :, 20:].eq(0).all()
        assert leaves["query"].grad[:, :, :20].isfinite().all()
        assert leaves["gamma"].grad.isfinite().all()


def test_padding_more_keys_changes_nothing():
    tensors = inputs(Shape(2, 2, 2, 21, 40, 16, 16), torch.randn)
    short = inhibitor_attention(**tensors, engine="cpu")
    longer = {n: t.clone() for n, t in tensors.items()}
    for name in ("key", "value"):
        longer[name] = torch.cat([torch.full_like(tensors[name][:, :, :30], 7.0), tensors[name]], dim=2)
    valid = torch.arange(70).expand(2, 70) >= 30
    assert torch.equal(inhibitor_attention(**longer, key_padding_mask=valid, engine="cpu"), short)


def test_rows_without_keys_give_zero_and_pass_no_gradient():
    shape = Shape(2, 2, 2, 9, 33, 16, 16)
    tensors, grad = inputs(shape), torch.randn(2, 2, 9, 16)
    valid = torch.zeros(2, 33, dtype=torch.bool)
    for options in ({"key_padding_mask": valid}, {"attn_mask": valid[:1]}):
        for t in outputs(tensors, grad, "cpu", torch.float32, **options).values():
            assert t.eq(0).all()


def test_nan_in_a_valid_input_is_not_hidden():
    for name in ("query", "key", "value"):
        tensors = inputs(Shape(1, 1, 1, 5, 40, 16, 16), torch.randn)
        tensors[name][0, 0, 2, 3] = math.nan
        out = inhibitor_attention(**tensors, engine="cpu")
        expected = inhibitor_attention(**tensors, engine="reference")
        assert torch.equal(out.isnan(), expected.isnan()), name


@pytest.mark.parametrize("empty", [Shape(0, 2, 2, 5, 5, 4, 4), Shape(1, 2, 2, 0, 5, 4, 4), Shape(1, 2, 2, 5, 0, 4, 4)])
def test_empty_sizes(empty):
    tensors = inputs(empty)
    grad = torch.randn(empty.batch, empty.heads, empty.queries, empty.value_dim)
    got = outputs(tensors, grad, "cpu", torch.float32)
    assert all(t.shape == (grad if n == "out" else tensors[n]).shape and t.eq(0).all() for n, t in got.items())


def test_strided_inputs_and_gradients():
    base = {n: torch.randn(2, 21, 3, 2 * 16) for n in ("query", "key", "value")}
    views = {n: t.transpose(1, 2)[..., ::2] for n, t in base.items()}
    grad = torch.randn(1, 1, 1, 1).expand(2, 3, 21, 16)
    got = outputs(views, grad, "cpu", torch.float32)
    packed = outputs({n: t.contiguous() for n, t in views.items()}, grad.contiguous(), "cpu", torch.float32)
    assert all(torch.equal(got[n], packed[n]) for n in got)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    tensors = {n: on_grid(1, 2, 33, 16).to(dtype).requires_grad_() for n in ("query", "key", "value")}
    out = inhibitor_attention(**tensors, gamma=0.7, delta=0.1, engine="cpu")
    full = inhibitor_attention(**{n: t.float() for n, t in tensors.items()}, gamma=0.7, delta=0.1, engine="cpu")
    assert out.dtype == dtype
    assert torch.equal(out, full.to(dtype))
    out.sum().backward()
    assert all(t.grad.dtype == dtype and t.grad.isfinite().all() for t in tensors.values())


@pytest.mark.parametrize("draw", [mostly_dead, lambda shape: inputs(shape, torch.randn)], ids=["sparse", "dense"])
def test_result_is_the_same_for_any_number_of_threads(draw):
    shape = Shape(2, 4, 2, 517, 131, 16, 16)
    tensors, grad = draw(shape), torch.randn(2, 4, 517, 16)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(outputs(tensors, grad, "cpu", torch.float32))
    for other in results[1:]:
        assert all(torch.equal(other[n], results[0][n]) for n in other)


def test_long_rows():
    compare(inputs(Shape(1, 1, 1, 5, 1000, 64, 64)), 1e-3)


def test_dropout_takes_the_engine_too():
    tensors = inputs(Shape(1, 2, 1, 9, 33, 16, 16))
    torch.manual_seed(1)
    got = inhibitor_attention(**tensors, dropout_p=0.5, engine="cpu")
    torch.manual_seed(1)
    expected = inhibitor_attention(**tensors, dropout_p=0.5, engine="reference")
    assert error(got, expected) < 1e-5
