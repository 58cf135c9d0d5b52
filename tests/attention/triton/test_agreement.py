"""Engine `triton` against the reference in float64: values and gradients, all options, odd sizes, ties."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.triton import launch, tile_config
from tests.attention.engine_cases import Shape, compare, error, inputs, on_grid, outputs
from tests.attention.triton.conftest import assert_fresh_memory_does_not_matter, assert_programs_do_not_matter

ODD = {
    "one": Shape(1, 1, 1, 1, 1, 1, 1),
    "odd": Shape(2, 1, 1, 17, 35, 4, 4),
    "grouped": Shape(1, 4, 2, 9, 37, 4, 20),
    "awkward": Shape(1, 2, 2, 33, 29, 7, 5),
    "decoding": Shape(2, 2, 1, 1, 47, 16, 16),
}
BIG = {
    "square": Shape(2, 12, 12, 128, 128, 64, 64),
    "long": Shape(1, 2, 2, 777, 1000, 64, 64),
    "wide": Shape(2, 4, 2, 200, 130, 256, 256),
    "uneven": Shape(2, 4, 2, 150, 130, 96, 128),
    "narrow": Shape(4, 8, 8, 512, 512, 16, 16),
}
SHAPES = [pytest.param(s, id=n) for n, s in ODD.items()] + [
    pytest.param(s, id=n, marks=pytest.mark.gpu) for n, s in BIG.items()
]
SHIPPED = {(kernel, dim): tile_config.default(kernel, dim) for kernel in tile_config.DEFAULTS for dim in (64, 128, 256)}
MASKS = ("none", "padding", "attn_mask", "causal", "all")

pytestmark = pytest.mark.usefixtures("small_tiles")


def masks(kind: str, shape: Shape, device: torch.device) -> dict:
    options: dict = {"is_causal": kind in ("causal", "all")}
    if kind in ("padding", "all"):  # holes, and tiles at the end that are padding altogether
        in_use = torch.arange(shape.keys) < 0.6 * shape.keys
        options["key_padding_mask"] = ((torch.rand(shape.batch, shape.keys) < 0.7) & in_use).to(device)
    if kind in ("attn_mask", "all"):
        options["attn_mask"] = (torch.rand(shape.batch, 1, shape.queries, shape.keys) < 0.7).to(device)
    return options


def on(device: torch.device, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.to(device) for name, t in tensors.items()}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("center", ["mean", "none"])
@pytest.mark.parametrize("shape", [SHAPES[1], *SHAPES[len(ODD) :]])
def test_agrees_with_reference_with_all_options(shape, center, signed, mask, device):
    tensors = on(device, inputs(shape, off_lattice=4e-6 if center == "mean" else 3e-4))
    compare(tensors, 3e-5, "triton", signed=signed, center=center, **masks(mask, shape, device))


@pytest.mark.sampled(7)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_reference_at_all_shapes(shape, mask, device):
    compare(on(device, inputs(shape)), 3e-5, "triton", **masks(mask, shape, device))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_distances_computed_twice_give_the_same(mask, signed, device, monkeypatch):
    """Where scratch memory does not hold the distances to all keys."""
    shape = Shape(1, 1, 1, 18, 40, 4, 4)
    tensors, options = on(device, inputs(shape)), masks(mask, shape, device) | {"signed": signed}
    grad = torch.randn(1, 1, 18, 4, device=device)
    cached = outputs(tensors, grad, "triton", torch.float32, **options)
    monkeypatch.setattr(launch, "CACHE_BYTES", 0)
    again = outputs(tensors, grad, "triton", torch.float32, **options)
    assert all(torch.equal(cached[name], again[name]) for name in cached)


@pytest.mark.parametrize("shape", SHAPES)
def test_output_on_gaussians_is_exact_to_float32(shape, device):
    tensors = on(device, inputs(shape, torch.randn))
    got = inhibitor_attention(**tensors, engine="triton")
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, engine="reference")
    assert error(got, expected) < 3e-6


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("center", ["mean", "none"])
def test_ties_take_the_zero_subgradient(signed, center, device):
    # Two values only, and sums that are exact: every second q equals its k, and many a Z equals some |v|.
    tensors = inputs(Shape(1, 2, 2, 9, 32, 16, 16), lambda *s: torch.randint(0, 2, s).float() * 2 - 1)
    tensors["delta"] = torch.zeros(2)
    compare(on(device, tensors), 3e-5, "triton", signed=signed, center=center)


@pytest.mark.parametrize("magnitude", [1e-30, 1e6], ids=["tiny", "huge"])
def test_scales(magnitude, device):
    tensors = inputs(Shape(1, 2, 2, 9, 35, 8, 8))
    for name in ("query", "key", "value", "delta"):
        tensors[name] = tensors[name] * magnitude
    compare(on(device, tensors), 1e-5, "triton")


def test_offset_keys_do_not_cost_accuracy(device):
    tensors = on(device, inputs(Shape(1, 2, 2, 9, 35, 8, 8)))  # on a grid, so that adding 1000 is exact
    plain = inhibitor_attention(**tensors, engine="triton")
    tensors |= {name: tensors[name] + 1000 for name in ("query", "key")}
    assert torch.equal(inhibitor_attention(**tensors, engine="triton"), plain)


@pytest.mark.parametrize("name", ["gamma", "eta", "delta"])
@pytest.mark.parametrize("number", [0.0, -0.7])
def test_scalars_without_sign_gates(name, number, device):
    tensors = inputs(Shape(1, 2, 2, 9, 20, 8, 8))
    tensors[name] = torch.full((2,), number + (4e-6 if name == "delta" else 0.0))
    compare(on(device, tensors), 1e-4, "triton", attn_mask=(torch.rand(9, 20) < 0.7).to(device))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
def test_content_of_padded_keys_changes_nothing(junk, signed, device):
    shape = Shape(2, 1, 1, 9, 35, 4, 4)
    tensors, grad = on(device, inputs(shape, torch.randn)), torch.randn(2, 1, 9, 4, device=device)
    options = masks("padding", shape, device) | {"signed": signed}
    clean = outputs(tensors, grad, "triton", torch.float32, **options)
    for name in ("key", "value"):
        tensors[name] = tensors[name].masked_fill(~options["key_padding_mask"][:, None, :, None], junk)
    for name, t in outputs(tensors, grad, "triton", torch.float32, **options).items():
        assert torch.equal(t, clean[name]), name


@pytest.mark.sampled(5)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
def test_content_of_keys_outside_a_row_mask_changes_nothing(junk, signed, device):
    """A key that only the last rows may see holds junk: the other rows do not notice."""
    options = {"is_causal": True, "signed": signed, "engine": "triton"}
    tensors = on(device, inputs(Shape(1, 1, 1, 33, 33, 4, 4), torch.randn))
    clean = inhibitor_attention(**tensors, **options)
    for name in ("key", "value"):
        tensors[name][:, :, 20:] = junk
    leaves = {n: t.requires_grad_() for n, t in tensors.items()}
    out = inhibitor_attention(**leaves, **options)
    assert torch.equal(out[:, :, :20], clean[:, :, :20])
    out[:, :, :20].sum().backward()
    assert leaves["key"].grad[:, :, 20:].eq(0).all()
    assert leaves["value"].grad[:, :, 20:].eq(0).all()
    assert leaves["query"].grad[:, :, :20].isfinite().all()


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_a_valid_input_is_not_hidden(name, signed, mask, device):
    tensors = on(device, inputs(Shape(1, 1, 1, 20, 20, 16, 16), torch.randn))
    tensors[name][0, 0, 2, 3] = math.nan
    options = {"signed": signed, "is_causal": mask == "causal"}
    expected = inhibitor_attention(**tensors, engine="reference", **options).isnan()
    assert torch.equal(inhibitor_attention(**tensors, engine="triton", **options).isnan(), expected)


def test_padding_more_keys_changes_nothing(device):
    tensors = on(device, inputs(Shape(2, 2, 2, 9, 20, 8, 8)))
    short = inhibitor_attention(**tensors, engine="triton")
    longer = {n: t.clone() for n, t in tensors.items()}
    for name in ("key", "value"):
        filling = torch.full_like(tensors[name], 7.0)
        longer[name] = torch.cat([filling, tensors[name], filling], dim=2)
    valid = (torch.arange(60, device=device) // 20 == 1).expand(2, 60)
    assert error(inhibitor_attention(**longer, key_padding_mask=valid, engine="triton"), short) < 1e-6


def test_rows_without_keys_give_zero_and_pass_no_gradient(device):
    tensors, grad = on(device, inputs(Shape(2, 2, 2, 9, 33, 8, 8))), torch.randn(2, 2, 9, 8, device=device)
    nowhere = torch.zeros(2, 33, dtype=torch.bool, device=device)
    for options in ({"key_padding_mask": nowhere}, {"attn_mask": nowhere[:1]}):
        for t in outputs(tensors, grad, "triton", torch.float32, **options).values():
            assert t.eq(0).all()


@pytest.mark.parametrize(
    "empty",
    [Shape(0, 2, 2, 5, 5, 4, 4), Shape(1, 2, 2, 0, 5, 4, 4), Shape(1, 2, 2, 5, 0, 4, 4), Shape(1, 2, 2, 5, 5, 4, 0)],
)
def test_empty_sizes(empty, device):
    tensors = on(device, inputs(empty))
    grad = torch.randn(empty.batch, empty.heads, empty.queries, empty.value_dim, device=device)
    got = outputs(tensors, grad, "triton", torch.float32)
    assert all(t.shape == (grad if n == "out" else tensors[n]).shape and t.eq(0).all() for n, t in got.items())


def test_strided_inputs_and_gradients(device):
    base = {n: torch.randn(2, 18, 2, 2 * 4, device=device) for n in ("query", "key", "value")}
    views = {n: t.transpose(1, 2)[..., ::2] for n, t in base.items()}
    mask = (torch.rand(18, 2, device=device) < 0.7).T
    grad = torch.randn(1, 1, 1, 1, device=device).expand(2, 2, 18, 4)
    got = outputs(views, grad, "triton", torch.float32, key_padding_mask=mask)
    packed = {n: t.contiguous() for n, t in views.items()}
    expected = outputs(packed, grad.contiguous(), "triton", torch.float32, key_padding_mask=mask.contiguous())
    assert all(torch.equal(got[n], expected[n]) for n in got)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype, device):
    tensors = {n: on_grid(1, 2, 19, 8).to(device, dtype).requires_grad_() for n in ("query", "key", "value")}
    grad = on_grid(1, 2, 19, 8).to(device, dtype)
    full = {n: t.detach().float().requires_grad_() for n, t in tensors.items()}
    results = []
    for leaves in (tensors, full):
        out = inhibitor_attention(**leaves, gamma=0.7, delta=0.1, engine="triton")
        results.append([out, *torch.autograd.grad(out, list(leaves.values()), grad.to(out.dtype))])
    for half, single in zip(*results, strict=True):
        assert half.dtype == dtype
        # The interpreter cuts digits off where a GPU rounds to the nearest.
        rounding = torch.finfo(dtype).eps if device.type == "cpu" else 0.0
        torch.testing.assert_close(half, single.to(dtype), rtol=rounding, atol=0)


def test_equal_calls_give_equal_bits(device):
    tensors = on(device, inputs(Shape(1, 2, 1, 37, 40, 4, 4), torch.randn))
    grad = torch.randn(1, 2, 37, 4, device=device)
    first, second = (outputs(tensors, grad, "triton", torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_result_is_the_same_for_any_number_of_programs(device, monkeypatch):
    tensors = on(device, inputs(Shape(1, 2, 1, 37, 40, 4, 4), torch.randn))
    assert_programs_do_not_matter(monkeypatch, tensors, torch.randn(1, 2, 37, 4, device=device))


def test_whatever_lies_in_fresh_memory_changes_nothing(device):
    shape = Shape(1, 2, 1, 17, 40, 4, 4)
    tensors, grad = on(device, inputs(shape, torch.randn)), torch.randn(1, 2, 17, 4, device=device)
    assert_fresh_memory_does_not_matter(tensors, grad, **masks("all", shape, device))


def test_dropout_takes_the_engine_too(device):
    tensors = on(device, inputs(Shape(1, 2, 1, 9, 33, 8, 8)))
    results = []
    for name in ("triton", "reference"):
        torch.manual_seed(1)
        results.append(inhibitor_attention(**tensors, dropout_p=0.5, engine=name))
    assert error(*results) < 1e-5


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kernel", ["forward", "bwd_dq", "bwd_dkdv"])
@pytest.mark.parametrize("dim", [64, 128, 256])
def test_shipped_sizes_agree_with_the_reference(kernel, dim, device, monkeypatch):
    """Those sizes for one kernel, on rows and keys that do not fill two tiles."""
    monkeypatch.setitem(tile_config.DEFAULTS, kernel, {256: SHIPPED[kernel, dim]})
    compare(on(device, inputs(Shape(1, 1, 1, 70, 80, dim if device.type == "cuda" else 8, 8))), 3e-5, "triton")
