"""Integers on ARM, with dot products of bytes and without, are bit-equal to their reference."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import Requantize
from inhibitor_transformers.attention.integer.qparams import BITS
from tests.attention.aarch64.emulator import DOTPROD
from tests.attention.engine_cases import Shape
from tests.attention.integer import test_engines, test_quantize
from tests.attention.integer.cases import random_qparams, tensors
from tests.attention.integer.test_quantize import plain  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("processor")

SHAPES = [Shape(2, 4, 2, 37, 71, 20, 40), Shape(1, 2, 1, 9, 130, 129, 7), Shape(1, 1, 1, 1, 5, 3, 1)]


def test_instructions_are_those_of_the_processor(processor):
    kernels = library.load()
    assert kernels.isas == ["neon", "portable"]
    for isa, integer_isa in {"neon": "dotprod" if processor == DOTPROD else "neon", "portable": "portable"}.items():
        kernels.use_isa(isa)
        assert kernels.integer_isa == integer_isa


@pytest.mark.parametrize("mask", test_engines.MASKS)
@pytest.mark.parametrize("bits", BITS)
def test_bit_equal(bits, mask):
    for seed, shape in enumerate(SHAPES):
        torch.manual_seed(seed)
        qparams = random_qparams(shape, bits, seed, extra=9 * (seed % 2))
        for signed in (True, False):
            for center in ("mean", "none"):
                masks = test_engines.masks_of(mask, shape, seed)
                call = test_engines.call_of(*tensors(shape), masks, signed, center)
                test_engines.assert_equal_everywhere(call, qparams)
        requantize = Requantize(qparams, 0.1 + torch.rand(shape.heads), 3, 4)
        test_engines.assert_requantized_alike(call, qparams, requantize)


@pytest.mark.parametrize("zero", [0, 7, 255])
@pytest.mark.parametrize("isa", ["neon", "portable"])
def test_quantize_uint8(isa, zero, plain):  # noqa: F811
    test_quantize.test_kernels_are_plain_torch(isa, zero, plain)


@pytest.mark.parametrize("bits", [8, 16])
def test_sums_that_leave_16_bits(bits):
    test_engines.test_the_largest_sum(bits, 600)
