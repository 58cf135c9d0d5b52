"""Engine `cpu` for a single query, as in decoding with a cache: keys and values are read where they are."""

from __future__ import annotations

import math

import pytest
import torch

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention import engine_cases as cases
from tests.attention.engine_cases import Shape, error, inputs

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

KEYS = (1, 15, 16, 17, 77, 300)
SHAPES = {
    "plain": Shape(2, 3, 3, 1, 77, 64, 64),
    "narrow": Shape(3, 2, 2, 1, 33, 16, 16),
    "wide": Shape(1, 2, 1, 1, 130, 96, 112),
    "pairs": Shape(2, 4, 2, 1, 50, 32, 48),
    "threes": Shape(1, 6, 2, 1, 50, 16, 32),
    "one key head": Shape(2, 9, 1, 1, 40, 64, 16),
    "any features": Shape(2, 4, 2, 1, 50, 7, 5),
    "any values": Shape(2, 4, 2, 1, 50, 16, 5),
}
MASKS = ("none", "padding", "left padding", "attn_mask", "attn_mask of heads", "causal", "all")


pytestmark = pytest.mark.usefixtures("isa")


def masks(kind: str, shape: Shape) -> dict:
    if kind == "attn_mask of heads":
        return {"attn_mask": torch.rand(shape.batch, shape.heads, 1, shape.keys) < 0.7}
    return cases.masks(kind, shape)


def assert_agrees(tensors: dict, **options) -> None:
    got = inhibitor_attention(**tensors, engine="cpu", **options)
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, engine="reference", **options)
    cancels = options.get("center") == "none"  # next to nothing is left of most values
    assert error(got, expected) < (1e-5 if cancels else 3e-6)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize(("center", "signed"), [("mean", True), ("mean", False), ("none", True), ("min", True)])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_agrees_with_reference(shape, center, signed, biased, mask):
    tensors = inputs(shape, torch.randn)
    if biased:
        tensors["score_bias"] = torch.randn(shape.heads, 1, shape.keys)
    assert_agrees(tensors, signed=signed, center=center, **masks(mask, shape))


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("mask", MASKS)
def test_agrees_with_reference_at_any_length(keys, mask):
    shape = Shape(2, 4, 2, 1, keys, 32, 32)
    assert_agrees(inputs(shape, torch.randn), **masks(mask, shape))


def test_it_reads_what_lies_apart():
    """As a model's projections give it, as a cache that is longer than what it holds, and with masks of any layout."""
    shape = Shape(2, 4, 2, 1, 50, 32, 32)
    tensors = inputs(shape, torch.randn)
    expected = inhibitor_attention(**tensors, engine="cpu")
    views = {n: t.transpose(1, 2).contiguous().transpose(1, 2) for n, t in tensors.items() if t.dim() == 4}
    assert torch.equal(inhibitor_attention(**tensors | views, engine="cpu"), expected)
    for name in ("key", "value"):
        cache = torch.full((2, 2, 90, 32), math.nan)
        cache[:, :, :50] = tensors[name]
        views[name] = cache[:, :, :50]
    assert torch.equal(inhibitor_attention(**tensors | views, engine="cpu"), expected)
    mask = torch.rand(2, 1, 1, 50) < 0.7
    expected = inhibitor_attention(**tensors, attn_mask=mask, engine="cpu")
    for layout in (mask.expand(2, 4, 1, 50).contiguous(), torch.stack([mask, mask], -1)[..., 0]):
        assert torch.equal(inhibitor_attention(**tensors, attn_mask=layout, engine="cpu"), expected)
    assert torch.equal(inhibitor_attention(**tensors, key_padding_mask=mask[:, 0, 0], engine="cpu"), expected)


@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
def test_content_of_masked_keys_changes_nothing(junk):
    shape = Shape(2, 4, 2, 1, 50, 32, 32)
    tensors, valid = inputs(shape, torch.randn), torch.rand(2, 50) < 0.5
    clean = inhibitor_attention(**tensors, key_padding_mask=valid, engine="cpu")
    for name in ("key", "value"):
        tensors[name] = tensors[name].masked_fill(~valid[:, None, :, None], junk)
    assert torch.equal(inhibitor_attention(**tensors, key_padding_mask=valid, engine="cpu"), clean)
    assert torch.equal(inhibitor_attention(**tensors, attn_mask=valid[:, None, None], engine="cpu"), clean)


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_a_valid_input_is_not_hidden(name):
    tensors = inputs(Shape(2, 4, 2, 1, 40, 16, 16), torch.randn)
    tensors[name][1, 1, 0, 3] = math.nan
    out = inhibitor_attention(**tensors, engine="cpu")
    expected = inhibitor_attention(**tensors, engine="reference")
    assert torch.equal(out.isnan(), expected.isnan())


def test_a_query_without_keys_gives_zero():
    shape = Shape(2, 4, 2, 1, 40, 16, 16)
    nowhere = torch.zeros(2, 40, dtype=torch.bool)
    for options in ({"key_padding_mask": nowhere}, {"attn_mask": nowhere[:, None, None]}):
        assert inhibitor_attention(**inputs(shape), engine="cpu", **options).eq(0).all()
    assert inhibitor_attention(**inputs(Shape(2, 4, 2, 1, 0, 16, 16)), engine="cpu").eq(0).all()
    assert inhibitor_attention(**inputs(Shape(2, 0, 0, 1, 5, 16, 16)), engine="cpu").shape == (2, 0, 1, 16)


def test_result_is_the_same_for_any_number_of_threads():
    tensors, results = inputs(Shape(3, 9, 1, 1, 200, 32, 32), torch.randn), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(inhibitor_attention(**tensors, engine="cpu"))
    assert all(torch.equal(other, results[0]) for other in results[1:])


def test_decoding_continues_what_a_causal_call_computes():
    tensors = inputs(Shape(2, 4, 2, 60, 60, 32, 32), torch.randn)
    whole = inhibitor_attention(**tensors, is_causal=True, engine="cpu")
    scalars = {n: t for n, t in tensors.items() if t.dim() == 1}
    for step in (1, 17, 60):
        seen = {n: tensors[n][:, :, :step] for n in ("key", "value")} | {
            "query": tensors["query"][:, :, step - 1 : step]
        }
        for is_causal in (False, True):
            out = inhibitor_attention(**seen, **scalars, is_causal=is_causal, engine="cpu")
            assert error(out, whole[:, :, step - 1 : step]) < 1e-5
