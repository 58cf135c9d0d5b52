"""Engine `cpu` where rows see different keys: causal calls and windows visit a part of the keys only."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention.engine_cases import Shape, compare, error, inputs, outputs

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

SHAPES = {
    "blocks": Shape(1, 2, 2, 130, 130, 16, 16),
    "odd": Shape(2, 2, 1, 101, 101, 7, 5),
    "cached": Shape(1, 2, 1, 70, 131, 32, 40),
    "two rows": Shape(2, 4, 2, 2, 90, 16, 16),
    "more queries than keys": Shape(1, 2, 2, 131, 70, 16, 32),
}


pytestmark = pytest.mark.usefixtures("isa")


def paddings(shape: Shape) -> dict[str, dict]:
    position = torch.arange(shape.keys)
    shift = torch.arange(shape.batch)[:, None] * 7 + 3
    return {
        "none": {},
        "left": {"key_padding_mask": position >= shift},
        "right": {"key_padding_mask": position < shape.keys - shift},
        "holes": {"key_padding_mask": torch.rand(shape.batch, shape.keys) < 0.7},
    }


PADDINGS = ("none", "left", "right", "holes")


def window(shape: Shape, width: int) -> Tensor:
    """Each query sees the last `width` keys up to its own position."""
    last = torch.arange(shape.queries)[:, None] + shape.keys - shape.queries
    key = torch.arange(shape.keys)
    return (key <= last) & (key > last - width)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize(("center", "signed"), [("mean", True), ("mean", False), ("none", True), ("min", True)])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_causal_calls_agree_with_reference(shape, center, signed, biased, padding):
    tensors = inputs(shape, off_lattice=4e-6 if center == "mean" else 3e-4)
    if biased:
        tensors["score_bias"] = torch.randint(-64, 65, (shape.heads, shape.queries, shape.keys)).float() / 64
    options = paddings(shape)[padding] | {"center": center, "signed": signed, "is_causal": True}
    compare(tensors, 1e-4, **options)


@pytest.mark.parametrize("share", [7, 2], ids=["sparse", "half"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_causal_calls_of_which_most_pairs_give_nothing(shape, signed, share):
    tensors = inputs(shape)
    tensors["value"] = torch.randint(-16, 17, tensors["value"].shape).float() / 128
    tensors["value"][:, :, torch.arange(shape.keys) % share != 0] = 0
    compare(tensors, 2e-4, signed=signed, is_causal=True)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_output_on_gaussians_is_exact_to_float32(shape, offset):
    tensors = inputs(shape, torch.randn)
    tensors |= {name: tensors[name] + offset for name in ("query", "key")}
    got = inhibitor_attention(**tensors, is_causal=True, engine="cpu")
    expected = inhibitor_attention(**{n: t.double() for n, t in tensors.items()}, is_causal=True, engine="reference")
    assert error(got, expected) < (3e-6 if offset == 0.0 else 1e-5)


def test_a_prefix_is_what_it_would_be_alone():
    """To the bit: nothing of a later key reaches a row."""
    tensors = inputs(Shape(1, 4, 2, 160, 160, 32, 32), torch.randn)
    whole = inhibitor_attention(**tensors, is_causal=True, engine="cpu")
    for length in (32, 64, 100):
        cut = {n: t[:, :, :length] if t.dim() == 4 else t for n, t in tensors.items()}
        assert torch.equal(inhibitor_attention(**cut, is_causal=True, engine="cpu"), whole[:, :, :length])


@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
def test_what_later_keys_hold_changes_nothing(junk):
    tensors, grad = inputs(Shape(1, 2, 2, 140, 140, 16, 16), torch.randn), torch.randn(1, 2, 140, 16)
    grad[:, :, 90:] = 0
    clean = outputs(tensors, grad, "cpu", torch.float32, is_causal=True)
    for name in ("key", "value"):
        tensors[name][:, :, 90:] = junk
    dirty = outputs(tensors, grad, "cpu", torch.float32, is_causal=True)
    assert torch.equal(dirty["out"][:, :, :90], clean["out"][:, :, :90])
    for name in ("query", "key", "value"):  # sums of gradients may take another order
        assert error(dirty[name][:, :, :90], clean[name][:, :, :90]) < 1e-5, name
    for name in ("key", "value"):
        assert dirty[name][:, :, 90:].eq(0).all(), name


@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("where", [0, 50])
def test_nan_reaches_the_rows_that_see_it(name, where):
    tensors = inputs(Shape(1, 1, 1, 100, 100, 16, 16), torch.randn)
    tensors[name][0, 0, where, 3] = math.nan
    out = inhibitor_attention(**tensors, is_causal=True, engine="cpu")
    expected = inhibitor_attention(**tensors, is_causal=True, engine="reference")
    assert torch.equal(out.isnan(), expected.isnan())


def test_result_is_the_same_for_any_number_of_threads():
    tensors = inputs(Shape(1, 2, 1, 517, 530, 16, 16), torch.randn)
    grad, results = torch.randn(1, 2, 517, 16), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(outputs(tensors, grad, "cpu", torch.float32, is_causal=True))
    for other in results[1:]:
        assert all(torch.equal(other[n], results[0][n]) for n in other)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("width", [1, 20, 300])
@pytest.mark.parametrize("is_causal", [False, True], ids=["", "causal"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_windows_agree_with_reference(shape, is_causal, width, padding):
    options = paddings(shape)[padding] | {"attn_mask": window(shape, width), "is_causal": is_causal}
    compare(inputs(shape), 1e-4, **options)


def test_masks_of_any_layout():
    """Strided, of each head, and with rows that see nothing at the edges of a block."""
    shape = Shape(2, 4, 2, 100, 150, 16, 16)
    tensors, grad = inputs(shape, torch.randn), torch.randn(2, 4, 100, 16)
    whole = window(shape, 30) & (torch.arange(100) % 40 > 9)[:, None]
    masks = [
        whole.T.contiguous().T,
        torch.stack([whole, whole], -1)[..., 0],
        torch.stack([whole.roll(9 * h, 1) for h in range(4)]),
        torch.zeros(100, 150, dtype=torch.bool),
    ]
    for mask in masks:
        got = outputs(tensors, grad, "cpu", torch.float32, attn_mask=mask)
        packed = outputs(tensors, grad, "cpu", torch.float32, attn_mask=mask.expand(2, 4, 100, 150).contiguous())
        assert all(torch.equal(got[n], packed[n]) for n in got)
        compare(inputs(shape), 1e-4, attn_mask=mask)
