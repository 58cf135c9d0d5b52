"""uint8 inputs of linear layers: compiled kernels and plain torch are bit-exact."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer.quantize import quantize_uint8
from tests.attention.engine_cases import instruction_set
from tests.attention.integer.cases import extreme

ISAS = [] if library.unavailable() else library.load().isas


@pytest.fixture
def plain(monkeypatch):
    """`quantize_uint8` without the compiled kernels."""

    def run(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(library, "unavailable", lambda: "not now")
            return quantize_uint8(*arguments)

    return run


def test_formula(plain):
    x = torch.tensor([-9.0, -0.5, -0.25, 0.0, 0.25, 0.75, 3.2, 1e30, torch.inf, -torch.inf, torch.nan])
    assert plain(x, torch.full((11,), 2.0), 10).tolist() == [
        0,
        9,
        10,
        10,
        10,
        12,
        16,
        255,
        255,
        0,
        0,
    ]  # ½ and 1½ round to even


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("zero", [0, 7, 128, 255])
def test_kernels_are_plain_torch(isa, zero, plain):
    torch.manual_seed(zero)
    for size in ((0, 4), (1,), (15,), (16,), (3, 33), (2, 5, 70), (100, 1000)):
        x, inverse = extreme(*size), torch.rand(size[-1])
        with instruction_set(isa):
            got = quantize_uint8(x, inverse, zero)
        assert got.dtype == torch.uint8
        assert torch.equal(got, plain(x, inverse, zero))


def test_strides(plain):
    x = torch.randn(6, 20)[:, ::2].T
    inverse = torch.rand(x.shape[-1]) * 50
    assert torch.equal(quantize_uint8(x, inverse, 100), plain(x.contiguous(), inverse, 100))


def test_under_torch_func(plain):
    """Where there is no memory to point a kernel at."""
    x, inverse = torch.randn(3, 5, 20), torch.rand(20) * 50
    mapped = torch.func.vmap(lambda row: quantize_uint8(row, inverse, 100))(x)
    assert torch.equal(mapped, plain(x, inverse, 100))
