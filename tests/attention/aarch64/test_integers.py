"""Integers on ARM, with dot products of bytes and without, are bit-equal to their reference."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import Requantize, reference
from inhibitor_transformers.attention.integer.qparams import BITS, MAX_DELTA
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
def test_everything_is_taken_away_from_many_values(bits):
    """The sums of what scores take away leave the 16 bits in which they are taken at first."""
    qparams, keys = test_engines.largest(bits, 1), 600
    qparams.delta.fill_(MAX_DELTA)
    qparams.shift.zero_()
    q, k, v = torch.zeros(1, 1, 5, 1), torch.zeros(1, 1, keys, 1), torch.full((1, 1, keys, 17), 1e9)
    v[..., 1] = -1e9
    call = test_engines.call_of(q, k, v, test_engines.masks_of("none", None, 0))
    assert reference.integer_sums(call, qparams).eq(0).all()
    test_engines.assert_equal_everywhere(call, qparams)
