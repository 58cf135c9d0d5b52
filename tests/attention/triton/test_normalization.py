"""Engine `triton` with scores above the least of their row, a key norm and a unit, against the reference in float64."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.call import CENTERS
from inhibitor_transformers.attention.triton import launch, tile_config
from tests.attention.engine_cases import Shape, compare, error, normalized, outputs
from tests.attention.triton.conftest import assert_fresh_memory_does_not_matter, assert_programs_do_not_matter
from tests.attention.triton.test_agreement import MASKS, SHIPPED, masks, on

SHAPES = {
    "one": Shape(1, 1, 1, 1, 1, 1, 1),
    "odd": Shape(2, 2, 2, 17, 35, 4, 4),
    "grouped": Shape(1, 4, 2, 9, 37, 4, 20),
    "decoding": Shape(2, 2, 1, 1, 47, 16, 16),
}
GIVEN = [(), ("key_norm",), ("unit",), ("key_norm", "unit")]
TOLERANCE = 3e-4  # dividing by a tenth of a key makes rounding ten times as large

pytestmark = pytest.mark.usefixtures("small_tiles")


@pytest.mark.sampled(7)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_converted_models_agree_with_reference_at_all_shapes(shape, mask, device):
    tensors = on(device, normalized(shape, "key_norm", "unit", center="min"))
    compare(tensors, TOLERANCE, "triton", center="min", **masks(mask, shape, device))


@pytest.mark.sampled(7)
@pytest.mark.parametrize("mask", ["none", "all"])
@pytest.mark.parametrize(("center", "given"), [c for c in product(CENTERS, GIVEN) if c[1] or c[0] == "min"], ids=str)
def test_agrees_with_reference_with_all_options(center, given, mask, device):
    shape = SHAPES["odd"]
    tensors = on(device, normalized(shape, *given, center=center))
    signed = (mask == "none") == (center == "min")
    compare(tensors, TOLERANCE, "triton", signed=signed, center=center, **masks(mask, shape, device))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("mask", "signed"), [("none", False), ("padding", True), ("causal", False), ("all", True)])
@pytest.mark.parametrize("center", CENTERS)
def test_agrees_with_reference_beside_a_bias(center, mask, signed, device):
    shape = SHAPES["grouped"]
    tensors = normalized(shape, "key_norm", "unit", center=center, bias=True)
    if center == "min":  # a bias for each head
        tensors["score_bias"] = torch.randint(-64, 65, (4, 9, 37)).float() / 64
    compare(on(device, tensors), TOLERANCE, "triton", center=center, signed=signed, **masks(mask, shape, device))


@pytest.mark.parametrize("mask", ["none", "all"])
@pytest.mark.parametrize("center", CENTERS)
def test_output_on_gaussians_is_exact_to_float32(center, mask, device):
    shape = SHAPES["grouped"]
    tensors = on(device, normalized(shape, "key_norm", "unit", draw=torch.randn))
    options = {"center": center, **masks(mask, shape, device)}
    got = inhibitor_attention(**tensors, engine="triton", **options)
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, engine="reference", **options)
    assert error(got, expected) < 5e-5


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_least_scores_that_tie_share_the_gradient(bias, signed, device):
    """Small integers everywhere: many a row has several least scores, in several tiles of keys; and Z equals zero, |u|
    or some |v|."""
    shape = Shape(1, 2, 1, 18, 70, 16, 16)
    tensors = normalized(shape, "key_norm", "unit", draw=lambda *s: torch.randint(-1, 2, s).float())
    tensors |= {
        "delta": torch.tensor([0.0, 0.25]),
        "unit": torch.tensor([0.5, 1.0]),
        "key_norm": torch.tensor([1.0, -1.0]),
    }
    tensors["key"][:, :, 40:] = tensors["key"][:, :, :30]
    if bias:
        tensors["score_bias"] = torch.randint(0, 2, (1, 18, 70)).float()
    compare(on(device, tensors), TOLERANCE, "triton", center="min", exact_ties=True, signed=signed)


@pytest.mark.parametrize("name", ["gamma", "eta", "key_norm"])
def test_gradients_where_a_scalar_is_zero(name, device):
    """Without γ every score is the least of its row; without η the output, which the gradient reads, tells nothing."""
    tensors = on(device, normalized(Shape(1, 2, 2, 9, 33, 8, 8), "key_norm", "unit", center="min"))
    tensors[name] = torch.tensor([0.0, -2.0], device=device)
    options = {"center": "min", "attn_mask": (torch.rand(9, 33) < 0.7).to(device)}  # equal distances are exactly equal
    grad = torch.randn(1, 2, 9, 8, device=device)
    got, expected = (
        outputs(tensors, grad, engine, dtype, **options)
        for engine, dtype in (("triton", torch.float32), ("reference", torch.float64))
    )
    assert not {name: e for name in got if not (e := error(got[name], expected[name])) <= TOLERANCE}


def test_where_next_to_no_key_passes_no_gradient_flows_through_their_number(device):
    """The first head divides by a constant, a tenth of a key."""
    tensors = normalized(SHAPES["odd"], "unit", center="min")
    tensors |= {"delta": torch.full((2,), 1.0 + 3e-4), "unit": torch.tensor([0.5, 2.0])}
    tensors["value"] = tensors["value"] * 8
    tensors = on(device, tensors)
    of_unit = outputs(tensors, torch.ones(2, 2, 17, 4, device=device), "triton", torch.float32, center="min")["unit"]
    assert of_unit.ne(0).tolist() == [False, True]
    compare(tensors, TOLERANCE, "triton", center="min")


@pytest.mark.parametrize(("center", "bias"), [("min", True), ("min", False), ("mean", True)])
def test_distances_computed_twice_give_the_same(center, bias, device, monkeypatch):
    shape = Shape(1, 2, 1, 18, 40, 4, 4)
    tensors = on(device, normalized(shape, "key_norm", "unit", draw=torch.randn, bias=bias))
    options = {"center": center, **masks("all", shape, device)}
    grad = torch.randn(1, 2, 18, 4, device=device)
    cached = outputs(tensors, grad, "triton", torch.float32, **options)
    monkeypatch.setattr(launch, "CACHE_BYTES", 0)
    again = outputs(tensors, grad, "triton", torch.float32, **options)
    assert all(torch.equal(cached[name], again[name]) for name in cached)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("mask", ["padding", "attn_mask"])
def test_a_key_that_is_not_valid_has_no_effect(mask, junk, device):
    shape = Shape(2, 2, 1, 9, 40, 4, 4)
    tensors = on(device, normalized(shape, "key_norm", "unit", draw=torch.randn, bias=True))
    grad, options = torch.randn(2, 2, 9, 4, device=device), {"center": "min", **masks(mask, shape, device)}
    hidden = (torch.arange(40, device=device) % 8 == 5)[:, None]
    if mask == "padding":
        hidden = ~options["key_padding_mask"][:, None, :, None]
    else:
        options["attn_mask"][..., hidden[:, 0]] = False
    clean = outputs(tensors, grad, "triton", torch.float32, **options)
    for name in ("key", "value"):
        tensors[name] = tensors[name].masked_fill(hidden, junk)
    dirty = outputs(tensors, grad, "triton", torch.float32, **options)
    assert all(torch.equal(dirty[n], clean[n]) for n in clean)


@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
def test_a_key_that_only_the_last_queries_see_has_no_effect_on_the_others(junk, device):
    tensors = on(device, normalized(Shape(1, 2, 1, 20, 20, 4, 4), "key_norm", draw=torch.randn))
    grad, options = torch.randn(1, 2, 20, 4, device=device), {"center": "min", "is_causal": True}
    grad[:, :, 17:] = 0.0
    clean = outputs(tensors, grad, "triton", torch.float32, **options)
    for name in ("key", "value"):
        tensors[name][:, :, 17:] = junk
    dirty = outputs(tensors, grad, "triton", torch.float32, **options)
    assert torch.equal(dirty["out"][:, :, :17], clean["out"][:, :, :17])
    assert all(torch.equal(dirty[n], clean[n]) for n in ("query", "key", "value"))


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_a_valid_input_is_not_hidden(name, mask, device):
    tensors = on(device, normalized(Shape(1, 1, 1, 20, 40, 16, 16), "key_norm", "unit", draw=torch.randn))
    tensors[name][0, 0, 2, 3] = math.nan
    options = {"is_causal": mask == "causal", "center": "min"}
    expected = inhibitor_attention(**tensors, engine="reference", **options).isnan()
    assert torch.equal(inhibitor_attention(**tensors, engine="triton", **options).isnan(), expected)


def test_rows_without_keys_give_zero_and_pass_no_gradient(device):
    tensors = on(device, normalized(Shape(2, 2, 2, 9, 33, 8, 8), "key_norm", "unit", bias=True))
    grad, nowhere = torch.randn(2, 2, 9, 8, device=device), torch.zeros(2, 33, dtype=torch.bool, device=device)
    for options in ({"key_padding_mask": nowhere}, {"attn_mask": nowhere[:1]}):
        for t in outputs(tensors, grad, "triton", torch.float32, center="min", **options).values():
            assert t.eq(0).all()


@pytest.mark.parametrize(
    "empty",
    [Shape(0, 2, 2, 5, 5, 4, 4), Shape(1, 2, 2, 0, 5, 4, 4), Shape(1, 2, 2, 5, 0, 4, 4), Shape(1, 2, 2, 5, 5, 4, 0)],
)
def test_empty_sizes(empty, device):
    tensors = on(device, normalized(empty, "key_norm", "unit"))
    grad = torch.randn(empty.batch, empty.heads, empty.queries, empty.value_dim, device=device)
    got = outputs(tensors, grad, "triton", torch.float32, center="min")
    assert all(t.shape == (grad if n == "out" else tensors[n]).shape and t.eq(0).all() for n, t in got.items())


@pytest.mark.slow
def test_whatever_lies_in_fresh_memory_changes_nothing(device):
    shape = Shape(2, 2, 1, 17, 40, 4, 4)
    grad, options = torch.randn(2, 2, 17, 4, device=device), masks("all", shape, device) | {"center": "min"}
    for given in GIVEN:
        tensors = on(device, normalized(shape, *given, draw=torch.randn, bias=True))
        assert_fresh_memory_does_not_matter(tensors, grad, **options)


def test_result_is_the_same_for_any_number_of_programs(device, monkeypatch):
    shape = Shape(1, 2, 1, 37, 40, 4, 4)
    tensors = on(device, normalized(shape, "key_norm", "unit", draw=torch.randn))
    assert_programs_do_not_matter(monkeypatch, tensors, torch.randn(1, 2, 37, 4, device=device), center="min")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype, device):
    """But for the output, whose rounded values the gradient reads where a unit divides it."""
    tensors = on(device, normalized(Shape(1, 2, 1, 9, 35, 8, 8), "key_norm", "unit", center="min"))
    halves = tensors | {name: tensors[name].to(dtype) for name in ("query", "key", "value")}
    grad, results = torch.randn(1, 2, 9, 8, device=device).to(dtype), []
    for given in (halves, {n: halves[n].float() for n in halves}):
        leaves = {n: t.detach().requires_grad_() for n, t in given.items()}
        out = inhibitor_attention(**leaves, center="min", engine="triton")
        results.append([out, *torch.autograd.grad(out, list(leaves.values()), grad.to(out.dtype))])
    for (half, single), t in zip(zip(*results, strict=True), [halves["query"], *halves.values()], strict=True):
        assert half.dtype == t.dtype
        assert error(half, single) <= 4 * torch.finfo(dtype).eps


def test_shipped_sizes_agree_with_the_reference(device, monkeypatch):
    for kernel in tile_config.DEFAULTS:
        monkeypatch.setitem(tile_config.DEFAULTS, kernel, {256: SHIPPED[kernel, 64]})
    tensors = normalized(Shape(1, 1, 1, 70, 80, 8, 8), "key_norm", "unit", center="min")
    compare(on(device, tensors), TOLERANCE, "triton", center="min")
