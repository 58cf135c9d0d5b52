"""The engine in float32 with kernels for ARM against the reference: forward, backward and decoding, in all tiles."""

from __future__ import annotations

import pytest
import torch

from tests.attention import test_cpu, test_cpu_decode, test_cpu_normalization
from tests.attention.engine_cases import Shape, compare, inputs, masks, normalized
from tests.attention.test_cpu import (  # noqa: F401  (run here as well)
    test_a_nan_row_leaves_its_neighbors_alone,
    test_content_of_keys_outside_a_row_mask_changes_nothing,
    test_content_of_padded_keys_changes_nothing,
    test_empty_sizes,
    test_nan_in_a_valid_input_is_not_hidden,
    test_rows_without_keys_give_zero_and_pass_no_gradient,
    test_strided_inputs_and_gradients,
    test_subnormals,
    test_ties_of_sparse_gradients,
    test_ties_take_the_zero_subgradient,
)

pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("mask", test_cpu.MASKS)
@pytest.mark.parametrize(
    ("center", "signed"), [("mean", True), ("mean", False), ("none", True), ("min", True)], ids=str
)
@pytest.mark.parametrize("shape", [Shape(2, 4, 2, 37, 71, 16, 40), Shape(1, 3, 3, 33, 29, 7, 5)], ids=str)
def test_agrees_with_reference(shape, center, signed, mask):
    tensors = inputs(shape, off_lattice=4e-6 if center == "mean" else 3e-4)
    compare(tensors, 3e-5, signed=signed, center=center, **masks(mask, shape))


@pytest.mark.parametrize("name", ["square", "one", "cross"])
def test_agrees_with_reference_at_other_sizes(name):
    compare(inputs(test_cpu.SHAPES[name]), 3e-5)


@pytest.mark.parametrize("mask", ["none", "causal", "all"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_sparse_gradients(signed, mask):
    shape = test_cpu.SPARSE_SHAPES["odd"]
    compare(test_cpu.mostly_dead(shape), 1e-4, signed=signed, **masks(mask, shape))


@pytest.mark.parametrize("mask", ["none", "all"])
def test_bias_key_norm_and_unit(mask):
    shape = Shape(2, 4, 2, 37, 71, 16, 40)
    tensors = normalized(shape, "key_norm", "unit", bias=True)
    compare(tensors, test_cpu_normalization.TOLERANCE, **masks(mask, shape))


@pytest.mark.parametrize("mask", ["none", "attn_mask", "all"])
@pytest.mark.parametrize("name", ["plain", "threes", "one key head", "any features"])
def test_decoding(name, mask):
    shape = test_cpu_decode.SHAPES[name]
    test_cpu_decode.assert_agrees(inputs(shape, torch.randn), **masks(mask, shape))
