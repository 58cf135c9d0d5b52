"""Engine `cpu` as a citizen of torch: dispatch, opcheck, compile, export, autocast, checkpointing, double backward."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import library as torch_library
from torch.utils.checkpoint import checkpoint

from inhibitor_transformers.attention import InhibitorScalars, available_engines, dispatch, inhibitor_attention
from inhibitor_transformers.attention.checks import make_call
from inhibitor_transformers.attention.cpu import library
from tests.attention.engine_cases import Shape, assert_compiles_once_for_all_shapes, inputs, on_grid

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def plain_call(dtype: torch.dtype = torch.float32):
    q = torch.randn(1, 2, 5, 4, dtype=dtype)
    return q, q, q


def arguments(requires_grad: bool = True, heads: int = 0) -> tuple:
    """`heads`: of the bias; 0: none."""
    tensors = inputs(Shape(1, 2, 1, 5, 9, 8, 8))
    leaves = [t.requires_grad_(requires_grad) for t in tensors.values()]
    bias = torch.randn(heads, 5, 9, requires_grad=requires_grad) if heads else None
    leaves += [None, None]  # key norm and unit: test_normalization.py
    return (*leaves, bias, torch.rand(1, 9) < 0.7, torch.rand(1, 2, 5, 9) < 0.7, 64.0, False, True, "mean", "cpu")


def test_auto_prefers_the_engine_where_it_can_serve():
    assert available_engines()[0] == "cpu"
    options = {
        "gamma": 1.0,
        "eta": 1.0,
        "delta": 0.0,
        "length_exponent": 0.0,
        "length_reference": 64,
        "key_padding_mask": None,
        "attn_mask": None,
        "is_causal": False,
        "signed": True,
        "center": "mean",
    }
    for dtype, name in ((torch.float32, "cpu"), (torch.bfloat16, "cpu"), (torch.float64, "reference")):
        assert dispatch.select(make_call(*plain_call(dtype), **options), "auto").name == name


def test_an_explicit_request_that_cannot_be_served_says_why():
    with pytest.raises(ValueError, match="float64"):
        inhibitor_attention(*plain_call(torch.float64), engine="cpu")


@pytest.mark.parametrize("heads", [0, 1, 2], ids=["no bias", "one bias", "biases"])
@pytest.mark.parametrize("masked", [True, False])
def test_opcheck(masked, heads):
    args = arguments(heads=heads)
    if not masked:
        args = (*args[:10], None, None, *args[12:])
    torch_library.opcheck(torch.ops.inhibitor.attention.default, args)
    out, saved = (t.detach() for t in torch.ops.inhibitor.attention(*args))
    grad = torch.randn_like(out)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch_library.opcheck(
        torch.ops.inhibitor.attention_backward.default, (grad, out, saved, *args, heads > 0), test_utils=tests
    )


def layer(q, k, v, gamma, mask):
    return inhibitor_attention(q * 2, k, v, gamma=gamma, delta=0.3, key_padding_mask=mask).transpose(1, 2).flatten(2)


def layer_inputs(batch: int, length: int) -> list:
    q, k, v = (on_grid(batch, 2, length, 16).requires_grad_() for _ in range(3))
    return [q, k, v, torch.rand(2).requires_grad_(), torch.rand(batch, length) < 0.7]


def test_compiles_as_one_graph_with_dynamic_shapes():
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_compiles_once_for_all_shapes(layer, compiled, layer_inputs)


def test_a_function_compiled_before_any_eager_call_is_compiled_once(monkeypatch):
    absent = replace(dispatch.CPU, name="absent", unavailable=lambda: "no such hardware")
    monkeypatch.setattr(dispatch, "ENGINES", (absent, *dispatch.ENGINES))
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    args = layer_inputs(2, 9)
    compiled(*args)
    expected = layer(*args)  # logs, and remembers that it has
    assert "absent" in dispatch._logged
    with torch.compiler.set_stance("fail_on_recompile"):
        assert torch.equal(compiled(*args), expected)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_inductor_compiles_as_one_graph_with_dynamic_shapes():
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    assert_compiles_once_for_all_shapes(layer, compiled, layer_inputs, own_sums=True)


def test_compiles_before_the_library_was_ever_used():
    code = """
import torch
from inhibitor_transformers.attention import inhibitor_attention
f = torch.compile(lambda q: inhibitor_attention(q, q, q), fullgraph=True, backend="aot_eager")
assert f(torch.randn(1, 1, 3, 4)).shape == (1, 1, 3, 4)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("masked", [True, False])
def test_exports_with_dynamic_shapes(masked):
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scalars = InhibitorScalars(2, length_exponent=0.75)

        def forward(self, q, k, v, mask=None):
            return inhibitor_attention(q, k, v, key_padding_mask=mask, **self.scalars.as_arguments())

    def tensors(batch, length):
        mask = torch.rand(batch, length) < 0.7 if masked else None
        return *(torch.randn(batch, 2, length, 16) for _ in range(3)), mask

    length, batch = torch.export.Dim("length", min=2, max=512), torch.export.Dim("batch", min=1, max=64)
    dims, of_mask = {0: batch, 2: length}, {0: batch, 1: length} if masked else None
    module = Layer()
    exported = torch.export.export(module, tensors(2, 17), dynamic_shapes=(dims, dims, dims, of_mask))
    assert any(node.target is torch.ops.inhibitor.attention.default for node in exported.graph.nodes)
    for size in ((3, 40), (1, 5)):
        args = tensors(*size)
        assert torch.equal(exported.module()(*args), module(*args))


def test_autocast():
    project = torch.nn.Linear(16, 16)
    x = torch.randn(1, 2, 9, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = project(x)
        out = inhibitor_attention(q, q, q, engine="cpu")
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert project.weight.grad.isfinite().all()


def test_activation_checkpointing():
    args = layer_inputs(2, 17)
    plain = torch.autograd.grad(layer(*args).sum(), args[:4])
    for reentrant in (True, False):
        out = checkpoint(layer, *args, use_reentrant=reentrant)
        again = [t.clone() for t in torch.autograd.grad(out.sum(), args[:4])] if not reentrant else None
        if reentrant:
            out.sum().backward()
            again = [t.grad for t in args[:4]]
        assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))


def test_double_backward_is_that_of_the_reference():
    tensors = inputs(Shape(1, 2, 1, 7, 11, 8, 8), torch.randn)
    results = []
    for engine in ("cpu", "reference"):
        leaves = {n: t.detach().clone().requires_grad_() for n, t in tensors.items()}
        out = inhibitor_attention(**leaves, engine=engine)
        first = torch.autograd.grad(out.square().sum(), list(leaves.values()), create_graph=True)
        penalty = sum(g.square().sum() for g in first)
        results.append(torch.autograd.grad(penalty, list(leaves.values())))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_gradients_only_where_asked():
    q, k, v = (torch.randn(1, 2, 9, 16) for _ in range(3))
    v.requires_grad_()
    inhibitor_attention(q, k, v, engine="cpu").sum().backward()
    assert v.grad is not None
    assert q.grad is None
