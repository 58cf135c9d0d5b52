"""Engine `cpu` with a bias of the scores, against the reference in float64, with every instruction set."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention.engine_cases import Shape, compare, error, inputs, masks, outputs

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

SHAPES = {
    "square": Shape(2, 3, 3, 64, 64, 64, 64),
    "one": Shape(1, 1, 1, 1, 1, 1, 1),
    "odd": Shape(3, 2, 2, 63, 65, 32, 32),
    "grouped": Shape(2, 4, 2, 37, 111, 16, 40),
    "cross": Shape(1, 2, 1, 3, 130, 96, 128),
    "awkward": Shape(2, 3, 3, 33, 29, 7, 5),
    "decoding": Shape(2, 4, 1, 1, 77, 64, 64),
}
MASKS = ("none", "padding", "left padding", "attn_mask", "causal", "all")


pytestmark = pytest.mark.usefixtures("isa")


def biased(shape: Shape, heads: int, draw=None, **options) -> dict[str, torch.Tensor]:
    """On a grid, the bias holds multiples of 1/64: comparisons keep away from equality (`inputs`)."""
    tensors = inputs(shape, **({} if draw is None else {"draw": draw}), **options)
    size = (heads, shape.queries, shape.keys)
    bias = torch.randint(-64, 65, size).float() / 64 if draw is None else draw(*size)
    return tensors | {"score_bias": bias}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("shared", "center", "signed"),
    [
        (False, "mean", True),
        (True, "mean", True),
        (False, "none", True),
        (False, "mean", False),
        (True, "none", False),
        (True, "min", True),
    ],
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_agrees_with_reference_on_a_grid(shape, shared, center, signed, mask):
    tensors = biased(shape, 1 if shared else shape.heads, off_lattice=4e-6 if center == "mean" else 3e-4)
    compare(tensors, 3e-5, signed=signed, center=center, **masks(mask, shape))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_output_on_gaussians_is_exact_to_float32(shape, mask):
    tensors, options = biased(shape, shape.heads, torch.randn), masks(mask, shape)
    got = inhibitor_attention(**tensors, engine="cpu", **options)
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, engine="reference", **options)
    assert error(got, expected) < 3e-6


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_ties_take_the_zero_subgradient(signed):
    # Multiples of 1/4 everywhere: many a Z equals zero or some |v|.
    shape = Shape(2, 2, 2, 9, 32, 16, 16)
    tensors = biased(shape, 2, lambda *s: torch.randint(0, 2, s).float() * 2 - 1)
    tensors["delta"] = torch.zeros(2)
    for center in ("mean", "none", "min"):
        compare(tensors, 3e-5, signed=signed, center=center)


def test_sparse_gradients_agree_with_reference():
    shape = Shape(2, 4, 2, 37, 111, 16, 40)
    tensors = biased(shape, 4)
    tensors["value"] = torch.where(torch.arange(111)[:, None] % 7 == 0, tensors["value"] / 4, 0.0)
    for mask in MASKS:
        compare(tensors, 1e-4, **masks(mask, shape))


@pytest.mark.parametrize("name", ["gamma", "eta"])
def test_the_gradient_of_the_bias_does_not_need_gamma(name):
    tensors = biased(Shape(2, 2, 2, 9, 33, 16, 16), 2) | {name: torch.tensor([0.0, -0.5])}
    compare(tensors, 1e-4, attn_mask=torch.rand(9, 33) < 0.7)


@pytest.mark.parametrize("heads", [1, 4])
def test_result_is_the_same_for_any_number_of_threads(heads):
    shape = Shape(5, 4, 2, 70, 131, 16, 16)
    tensors, grad = biased(shape, heads, torch.randn), torch.randn(5, 4, 70, 16)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(outputs(tensors, grad, "cpu", torch.float32))
    for other in results[1:]:
        assert all(torch.equal(other[n], results[0][n]) for n in other)


def test_a_frozen_bias_changes_no_other_gradient():
    """It needs no owner for the whole batch."""
    tensors = biased(Shape(3, 4, 2, 20, 33, 16, 16), 4, torch.randn)
    bias, grad = tensors.pop("score_bias"), torch.randn(3, 4, 20, 16)
    frozen = outputs(tensors, grad, "cpu", torch.float32, score_bias=bias)
    trained = outputs(tensors | {"score_bias": bias}, grad, "cpu", torch.float32)
    assert all(torch.equal(frozen[n], trained[n]) for n in frozen)


def test_strided_biases():
    """A table of relative positions is (Nq, Nk, H) in memory; heads may be broadcast."""
    shape = Shape(2, 3, 3, 21, 40, 16, 16)
    tensors, grad = biased(shape, 3, torch.randn), torch.randn(2, 3, 21, 16)
    views = [
        torch.randn(21, 40, 3).permute(2, 0, 1),
        torch.randn(1, 21, 40).expand(3, 21, 40),
        torch.randn(3, 1, 40).expand(3, 21, 40),
        torch.randn(3, 21, 80)[..., ::2],
        torch.randn(3, 30, 50)[:, 4:25, 5:45],
    ]
    for view in views:
        got = outputs(tensors | {"score_bias": view}, grad, "cpu", torch.float32)
        packed = outputs(tensors | {"score_bias": view.contiguous()}, grad, "cpu", torch.float32)
        assert all(torch.equal(got[n], packed[n]) for n in got)


@pytest.mark.parametrize("empty", [Shape(0, 2, 2, 5, 5, 4, 4), Shape(1, 2, 2, 0, 5, 4, 4), Shape(1, 2, 2, 5, 0, 4, 4)])
@pytest.mark.parametrize("heads", [1, 2])
def test_empty_sizes(empty, heads):
    tensors = biased(empty, heads)
    grad = torch.randn(empty.batch, empty.heads, empty.queries, empty.value_dim)
    got = outputs(tensors, grad, "cpu", torch.float32)
    assert all(t.shape == (grad if n == "out" else tensors[n]).shape and t.eq(0).all() for n, t in got.items())


def test_rows_without_keys_pass_no_gradient():
    shape = Shape(2, 2, 2, 9, 33, 16, 16)
    tensors, grad = biased(shape, 2), torch.randn(2, 2, 9, 16)
    nowhere = torch.zeros(2, 33, dtype=torch.bool)
    for options in ({"key_padding_mask": nowhere}, {"attn_mask": nowhere[:1]}):
        for t in outputs(tensors, grad, "cpu", torch.float32, **options).values():
            assert t.eq(0).all()
