"""Engine `triton` with a bias of the scores, against the reference in float64."""

from __future__ import annotations

import math

import pytest
import torch

from inhibitor_transformers.attention.triton import launch, tile_config
from tests.attention.engine_cases import Shape, compare, inputs, outputs
from tests.attention.triton.conftest import assert_fresh_memory_does_not_matter, assert_programs_do_not_matter
from tests.attention.triton.test_agreement import MASKS, masks, on

SHAPES = {
    "one": Shape(1, 1, 1, 1, 1, 1, 1),
    "odd": Shape(2, 2, 2, 17, 35, 4, 4),
    "grouped": Shape(2, 4, 2, 9, 37, 4, 20),
    "decoding": Shape(2, 2, 1, 1, 47, 16, 16),
}
pytestmark = pytest.mark.usefixtures("small_tiles")


def biased(shape: Shape, heads: int, device: torch.device, **options) -> dict[str, torch.Tensor]:
    bias = torch.randint(-64, 65, (heads, shape.queries, shape.keys)).float() / 64
    return on(device, inputs(shape, **options) | {"score_bias": bias})


@pytest.mark.sampled(7)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per head"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_agrees_with_reference_at_all_shapes(shape, shared, mask, device):
    compare(biased(shape, 1 if shared else shape.heads, device), 3e-5, "triton", **masks(mask, shape, device))


@pytest.mark.parametrize("mask", ["none", "all"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_agrees_with_reference_without_centering(signed, mask, device):
    shape = SHAPES["odd"]
    tensors = biased(shape, 2, device, off_lattice=3e-4)
    compare(tensors, 3e-5, "triton", signed=signed, center="none", **masks(mask, shape, device))


def test_distances_computed_twice_give_the_same(device, monkeypatch):
    shape = Shape(2, 2, 1, 18, 40, 4, 4)
    tensors, options = biased(shape, 2, device), masks("all", shape, device)
    grad = torch.randn(2, 2, 18, 4, device=device)
    cached = outputs(tensors, grad, "triton", torch.float32, **options)
    monkeypatch.setattr(launch, "CACHE_BYTES", 0)
    again = outputs(tensors, grad, "triton", torch.float32, **options)
    assert all(torch.equal(cached[name], again[name]) for name in cached)


@pytest.mark.parametrize("junk", [math.nan, math.inf])
def test_the_bias_of_invalid_pairs_has_no_effect_and_no_gradient(junk, device):
    shape = Shape(2, 2, 2, 20, 20, 4, 4)
    tensors, grad = biased(shape, 2, device), torch.randn(2, 2, 20, 4, device=device)
    future = torch.ones(20, 20, dtype=torch.bool, device=device).triu(1)
    clean = outputs(tensors, grad, "triton", torch.float32, is_causal=True)
    tensors["score_bias"] = tensors["score_bias"].masked_fill(future, junk)
    dirty = outputs(tensors, grad, "triton", torch.float32, is_causal=True)
    assert all(torch.equal(clean[name], dirty[name]) for name in clean)
    assert clean["score_bias"][:, future].eq(0).all()


def test_whatever_lies_in_fresh_memory_changes_nothing(device):
    shape = Shape(2, 2, 1, 17, 40, 4, 4)
    tensors, options = biased(shape, 1, device), masks("all", shape, device)
    assert_fresh_memory_does_not_matter(tensors, torch.randn(2, 2, 17, 4, device=device), **options)


@pytest.mark.slow
def test_result_is_the_same_for_any_number_of_programs(device, monkeypatch):
    shape = Shape(2, 2, 1, 37, 40, 4, 4)
    grad = torch.randn(2, 2, 37, 4, device=device)
    assert_programs_do_not_matter(monkeypatch, biased(shape, 2, device), grad)


@pytest.mark.parametrize("empty", [Shape(0, 2, 2, 5, 5, 4, 4), Shape(1, 2, 2, 5, 0, 4, 4), Shape(1, 2, 2, 5, 5, 4, 0)])
def test_empty_sizes(empty, device):
    tensors = biased(empty, 1, device)
    grad = torch.randn(empty.batch, empty.heads, empty.queries, empty.value_dim, device=device)
    got = outputs(tensors, grad, "triton", torch.float32)
    assert all(t.shape == (grad if n == "out" else tensors[n]).shape and t.eq(0).all() for n, t in got.items())


def test_shipped_sizes_agree_with_the_reference(device, monkeypatch):
    monkeypatch.setitem(tile_config.DEFAULTS, "bwd_dbias", {256: tile_config.TileConfig(programs=2)})
    compare(biased(Shape(2, 1, 1, 70, 80, 8, 8), 1, device), 3e-5, "triton")
