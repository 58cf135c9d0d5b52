"""Engine `cpu` with a key norm and a unit, against the reference in float64, with every instruction set."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention.engine_cases import Shape, compare, error, masks, normalized, outputs

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

SHAPES = {
    "square": Shape(2, 3, 3, 64, 64, 64, 64),
    "one": Shape(1, 1, 1, 1, 1, 1, 1),
    "grouped": Shape(2, 4, 2, 37, 111, 16, 40),
    "cross": Shape(1, 2, 1, 3, 130, 96, 128),
    "awkward": Shape(2, 3, 3, 33, 29, 7, 5),
    "decoding": Shape(2, 4, 1, 1, 77, 64, 64),
    "decoding, odd": Shape(2, 3, 1, 1, 43, 13, 24),
}
MASKS = ("none", "padding", "left padding", "attn_mask", "causal", "all")
CENTERS = ("mean", "none", "min")
TOLERANCE = 3e-4  # dividing by a tenth of a key makes rounding ten times as large

pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize(
    ("name", "given"),
    [(name, ("key_norm", "unit")) for name in SHAPES]
    + [(name, (one,)) for name in ("grouped", "decoding") for one in ("key_norm", "unit")],
)
def test_agrees_with_reference_on_a_grid(name, given, center, mask):
    shape = SHAPES[name]
    signed = center != "none"
    compare(normalized(shape, *given, center=center), TOLERANCE, signed=signed, center=center, **masks(mask, shape))


@pytest.mark.parametrize(("mask", "center"), list(product(("none", "causal", "all"), CENTERS)))
def test_agrees_with_reference_beside_a_bias(mask, center):
    for shape in (SHAPES["grouped"], SHAPES["decoding"]):
        tensors = normalized(shape, "key_norm", "unit", center=center, bias=True)
        compare(tensors, TOLERANCE, center=center, **masks(mask, shape))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_output_on_gaussians_is_exact_to_float32(shape, mask):
    tensors, options = normalized(shape, "key_norm", "unit", draw=torch.randn), masks(mask, shape)
    for center in CENTERS:
        got = inhibitor_attention(**tensors, engine="cpu", center=center, **options)
        double = {n: t.double() for n, t in tensors.items()}
        expected = inhibitor_attention(**double, engine="reference", center=center, **options)
        assert error(got, expected) < 5e-5


def test_sparse_gradients_agree_with_reference():
    shape = SHAPES["grouped"]
    tensors = normalized(shape, "key_norm", "unit")
    tensors["value"] = torch.where(torch.arange(111)[:, None] % 7 == 0, tensors["value"] / 4, 0.0)
    for mask in MASKS:
        compare(tensors, 1e-4, **masks(mask, shape))


@pytest.mark.parametrize("name", ["gamma", "eta", "key_norm"])
def test_gradients_where_a_scalar_is_zero(name):
    shape = Shape(2, 2, 2, 9, 33, 16, 16)
    tensors = normalized(shape, "key_norm", "unit") | {name: torch.tensor([0.0, 2.0])}
    if name == "eta":  # of η itself, zero outputs do not tell
        grad = torch.randn(2, 2, 9, 16)
        got, expected = (
            outputs(tensors, grad, engine, dtype)
            for engine, dtype in (("cpu", torch.float32), ("reference", torch.float64))
        )
        assert not {name: e for name in got if not (e := error(got[name], expected[name])) <= 1e-4}
    compare(tensors, 1e-4, attn_mask=torch.rand(9, 33) < 0.7)


def test_ties_take_the_zero_subgradient():
    """Multiples of 1/4 everywhere: many a Z equals zero, |u| or some |v|; and many a key is 0."""
    shape = Shape(2, 2, 2, 9, 32, 16, 16)
    tensors = normalized(shape, "key_norm", "unit", draw=lambda *s: torch.randint(-1, 2, s).float())
    tensors |= {"delta": torch.zeros(2), "unit": torch.tensor([0.5, 1.0])}
    for center in CENTERS:
        compare(tensors, TOLERANCE, center=center, exact_ties=True)


def test_result_is_the_same_for_any_number_of_threads():
    shape = Shape(5, 4, 2, 70, 131, 16, 16)
    tensors, grad = normalized(shape, "key_norm", "unit", draw=torch.randn), torch.randn(5, 4, 70, 16)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(outputs(tensors, grad, "cpu", torch.float32, is_causal=True))
    for other in results[1:]:
        assert all(torch.equal(other[n], results[0][n]) for n in other)


@pytest.mark.parametrize("mask", ["padding", "attn_mask", "causal"])
def test_a_key_that_is_not_valid_has_no_effect(mask):
    shape = Shape(2, 4, 2, 20, 33, 16, 16)
    tensors, grad = normalized(shape, "key_norm", "unit", draw=torch.randn), torch.randn(2, 4, 20, 16)
    options = masks(mask, shape)
    if mask == "padding":
        junk = ~options["key_padding_mask"][:, None, :, None]
    elif mask == "attn_mask":
        options["attn_mask"][..., 5] = False
        junk = torch.arange(33)[:, None] == 5
    else:  # the last key, which the last query alone sees
        junk, grad[:, :, -1] = torch.arange(33)[:, None] == 32, 0.0
    clean = outputs(tensors, grad, "cpu", torch.float32, **options)
    dirty = tensors | {"key": tensors["key"].masked_fill(junk, torch.nan)}
    found = inhibitor_attention(**dirty, engine="cpu", **options)
    seen = slice(None, -1) if mask == "causal" else slice(None)
    assert torch.equal(found[:, :, seen], clean["out"][:, :, seen])
    if mask != "causal":
        gradients = outputs(dirty, grad, "cpu", torch.float32, **options)
        assert all(torch.equal(gradients[n], clean[n]) for n in clean)


@pytest.mark.parametrize("empty", [Shape(0, 2, 2, 5, 5, 4, 4), Shape(1, 2, 2, 0, 5, 4, 4), Shape(1, 2, 2, 5, 0, 4, 4)])
def test_empty_sizes(empty):
    tensors = normalized(empty, "key_norm", "unit")
    grad = torch.randn(empty.batch, empty.heads, empty.queries, empty.value_dim)
    got = outputs(tensors, grad, "cpu", torch.float32)
    assert all(t.shape == (grad if n == "out" else tensors[n]).shape and t.eq(0).all() for n, t in got.items())
