"""bfloat16 that the kernels read and write themselves: the numbers of float32, rounded once."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import engine, library
from tests.attention.engine_cases import Shape, inputs, masks

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

SHAPES = [
    Shape(2, 3, 3, 64, 64, 64, 64),
    Shape(2, 4, 2, 37, 111, 16, 40),
    Shape(2, 3, 3, 33, 29, 7, 5),
    Shape(1, 1, 1, 2, 1, 1, 1),
    Shape(2, 2, 1, 1, 77, 64, 64),
]

pytestmark = pytest.mark.usefixtures("isa")


def in_bfloat16(shape: Shape) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Query, key and value of normally distributed numbers; the scalars."""
    tensors = inputs(shape, torch.randn)
    return {n: tensors.pop(n).bfloat16() for n in ("query", "key", "value")}, tensors


@pytest.fixture
def kernels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are called directly, or not at all."""

    def run_kernels(*_: object) -> None:
        raise AssertionError("bfloat16 was converted")

    monkeypatch.setattr(engine, "run_kernels", run_kernels)


@pytest.mark.parametrize("mask", ["none", "padding", "left padding", "attn_mask", "causal", "all"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_float32_rounded(shape, signed, mask, kernels_only, monkeypatch):
    qkv, scalars = in_bfloat16(shape)
    options = {**scalars, **masks(mask, shape), "signed": signed, "engine": "cpu"}
    out = inhibitor_attention(**qkv, **options)
    monkeypatch.undo()
    full = inhibitor_attention(**{n: t.float() for n, t in qkv.items()}, **options)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, full.bfloat16()) or shape.queries == 1
    # A single query in float32 is decoded: its sums have another order, and may round to the neighbor.
    torch.testing.assert_close(out.float(), full, rtol=2**-8, atol=1e-5)


def test_strides(kernels_only):
    base = [torch.randn(2, 21, 3, 32).bfloat16() for _ in range(3)]
    views = [t.transpose(1, 2)[..., ::2] for t in base]
    packed = [t.contiguous() for t in views]
    assert torch.equal(inhibitor_attention(*views, engine="cpu"), inhibitor_attention(*packed, engine="cpu"))


@pytest.mark.parametrize("dim", [16, 7])
def test_special_numbers_are_rounded_as_torch_rounds_them(dim, kernels_only):
    """With one key that is the query, scores are 0 and outputs are the values times η."""
    value = torch.tensor([float("inf"), -float("inf"), 3.38e38, 1e-40, -0.0, 1.0, 1 + 2**-7, 255.0, 3.0, -1.5, 0.1])
    value = value.repeat(2)[:dim].bfloat16().expand(1, 1, 1, dim)
    query = torch.zeros(1, 1, 2, dim, dtype=torch.bfloat16)
    eta = 1 + 2**-8
    out = inhibitor_attention(query, query[:, :, :1], value, eta=eta, engine="cpu")
    expected = (value.float() * eta).bfloat16().expand(1, 1, 2, dim)
    assert torch.equal(out, expected)


def test_a_nan_stays_one(kernels_only):
    qkv = [torch.randn(1, 2, 5, 16).bfloat16() for _ in range(3)]
    qkv[0][0, 1, 3, 2] = float("nan")
    rows = inhibitor_attention(*qkv, engine="cpu").isnan()
    assert rows[0, 1, 3].all()
    assert rows.sum() == 16


def test_gradients_are_those_of_float32():
    qkv, scalars = in_bfloat16(SHAPES[1])
    given = [t.requires_grad_() for t in qkv.values()]
    full = [t.detach().float().requires_grad_() for t in given]
    grad = torch.randn(2, 4, 37, 40)
    inhibitor_attention(*given, **scalars, engine="cpu").backward(grad.bfloat16())
    inhibitor_attention(*full, **scalars, engine="cpu").backward(grad.bfloat16().float())
    assert all(torch.equal(a.grad, b.grad.bfloat16()) for a, b in zip(given, full, strict=True))
