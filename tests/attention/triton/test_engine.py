"""When engine `triton` serves, what it says when it cannot, and what it is within torch."""

from __future__ import annotations

import builtins
import importlib.util
import logging
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import library
from torch.func import grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from inhibitor_transformers.attention import dispatch, engine_report, inhibitor_attention
from inhibitor_transformers.attention.engine import KERNELS, Engine, Kernels
from inhibitor_transformers.attention.triton import engine, tile_config
from tests.attention.engine_cases import Shape, assert_compiles_once_for_all_shapes, inputs, on_grid
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("small_tiles")


@pytest.fixture
def fresh_verdict():
    """The verdict on this machine is remembered; forget it before and after."""
    engine._unavailable.cache_clear()
    yield
    engine._unavailable.cache_clear()


def qkv(device: torch.device, dtype: torch.dtype = torch.float32, dim: int = 4):
    return [torch.randn(1, 2, 5, dim, device=device).to(dtype) for _ in range(3)]


def test_auto_takes_cpu_tensors_elsewhere_and_gpu_tensors_here(device):
    assert dispatch.serving_engine(torch.device("cpu")) != "triton"
    if device.type == "cuda":
        assert dispatch.serving_engine(device) == "triton"


@pytest.mark.parametrize("dtype", [torch.float64])
def test_an_explicit_request_that_cannot_be_served_says_why(dtype, device):
    with pytest.raises(ValueError, match="engine 'triton' cannot serve this call: it computes in float32"):
        inhibitor_attention(*qkv(device, dtype), engine="triton")
    with pytest.raises(ValueError, match="heads may have 256 features, query and value have 257 and 257"):
        inhibitor_attention(*qkv(device, dim=257), engine="triton")


def test_cpu_tensors_are_refused_but_in_the_interpreter(monkeypatch):
    monkeypatch.delenv(engine.INTERPRETER_VARIABLE, raising=False)
    monkeypatch.setattr(engine, "unavailable", lambda: None)
    monkeypatch.setattr(dispatch, "ENGINES", (*dispatch.ENGINES[:1], triton_without_verdict(), dispatch.REFERENCE))
    with pytest.raises(ValueError, match="it runs on CUDA and ROCm tensors, the query is on cpu"):
        inhibitor_attention(*qkv(torch.device("cpu")), engine="triton")


def triton_without_verdict() -> Engine:
    return replace(dispatch.TRITON, unavailable=lambda: None)


@pytest.mark.usefixtures("fresh_verdict")
def test_without_a_device_the_report_says_so(monkeypatch):
    monkeypatch.delenv(engine.INTERPRETER_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ("triton", engine.describe(), "torch sees no CUDA or ROCm device") in engine_report()


@pytest.mark.usefixtures("fresh_verdict")
def test_without_triton_the_report_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "Triton is not installed" in {n: s for n, _, s in engine_report()}["triton"]


@pytest.mark.usefixtures("fresh_verdict")
def test_a_driver_that_fails_is_a_reason_not_a_crash(monkeypatch):
    """Triton is installed, torch sees a device, and Triton's driver raises."""
    monkeypatch.delenv(engine.INTERPRETER_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "triton.runtime":
            raise RuntimeError("0 active drivers ([]). There should only be one.")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert engine.unavailable() == (
        "Triton cannot use the device: RuntimeError: 0 active drivers ([]). There should only be one."
    )


def test_the_package_needs_no_triton():
    """Where it cannot be imported, everything else works and nothing warns."""
    code = """
import sys, warnings
warnings.simplefilter("error")
sys.modules["triton"] = None
import torch
from inhibitor_transformers.attention import engine_report, inhibitor_attention
q = torch.randn(1, 1, 3, 4)
inhibitor_attention(q, q, q)
assert "not installed" in {name: state for name, _, state in engine_report()}["triton"]
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""})
    assert run.returncode == 0, run.stderr
    assert "triton" not in run.stderr


def test_calls_on_the_cpu_do_not_speak_of_it(monkeypatch, caplog):
    """The missing engine is only worth a line to those who hold GPU tensors."""
    monkeypatch.setattr(dispatch, "_logged", set())
    monkeypatch.setattr(engine, "_unavailable", lambda: "no such hardware")
    with caplog.at_level(logging.WARNING):
        inhibitor_attention(*qkv(torch.device("cpu")))
    assert "triton" not in caplog.text


@pytest.mark.sampled(4)
@pytest.mark.parametrize("heads", [0, 1, 2], ids=["no bias", "one bias", "biases"])
@pytest.mark.parametrize(("masked", "center", "norms"), [(True, "mean", 0), (False, "mean", 1), (True, "min", 2)])
def test_opcheck(masked, center, norms, heads, device):
    tensors = {n: t.to(device).requires_grad_() for n, t in inputs(Shape(1, 2, 1, 5, 9, 4, 4)).items()}
    scalars = [torch.rand(2, device=device).requires_grad_() if i < norms else None for i in range(2)]
    valid = [torch.rand(1, 9, device=device) < 0.7, torch.rand(1, 2, 5, 9, device=device) < 0.7]
    bias = torch.randn(heads, 5, 9, device=device, requires_grad=True) if heads else None
    options = (64.0, False, True, center, "triton")
    args = (*tensors.values(), *scalars, bias, *(valid if masked else (None, None)), *options)
    library.opcheck(torch.ops.inhibitor.attention.default, args)
    out, saved = (t.detach() for t in torch.ops.inhibitor.attention(*args))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    backward = (torch.randn_like(out), out, saved, *args, heads > 0)
    library.opcheck(torch.ops.inhibitor.attention_backward.default, backward, test_utils=tests)


def layer(q, k, v, gamma, mask):
    out = inhibitor_attention(q * 2, k, v, gamma=gamma, delta=0.3, key_padding_mask=mask, engine="triton")
    return out.transpose(1, 2).flatten(2)


def layer_inputs(device, batch: int, length: int) -> list:
    q, k, v = (on_grid(batch, 2, length, 4).to(device).requires_grad_() for _ in range(3))
    return [q, k, v, torch.rand(2, device=device).requires_grad_(), torch.rand(batch, length, device=device) < 0.7]


@pytest.mark.slow
def test_compiles_as_one_graph_with_dynamic_shapes(device):
    torch._dynamo.reset()
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=backend)
    own_sums = backend == "inductor"
    assert_compiles_once_for_all_shapes(layer, compiled, partial(layer_inputs, device), own_sums=own_sums)


def test_activation_checkpointing(device):
    args = layer_inputs(device, 2, 9)
    plain = torch.autograd.grad(layer(*args).sum(), args[:4])
    again = torch.autograd.grad(checkpoint(layer, *args, use_reentrant=False).sum(), args[:4])
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))


def test_autocast(device):
    project = torch.nn.Linear(4, 4).to(device)
    x = torch.randn(1, 2, 9, 4, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        q = project(x)
        out = inhibitor_attention(q, q, q, engine="triton")
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert project.weight.grad.isfinite().all()


def test_double_backward_is_that_of_the_reference(device):
    tensors = {n: t.to(device) for n, t in inputs(Shape(1, 2, 1, 5, 7, 4, 4), torch.randn).items()}
    results = []
    for name in ("triton", "reference"):
        leaves = {n: t.detach().clone().requires_grad_() for n, t in tensors.items()}
        out = inhibitor_attention(**leaves, engine=name)
        first = torch.autograd.grad(out.square().sum(), list(leaves.values()), create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), list(leaves.values())))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_gradients_of_every_sample(device):
    """Under torch.func: with scalars in common, and with scalars of their own."""
    tensors = [t.to(device) for t in inputs(Shape(1, 2, 1, 5, 7, 4, 4)).values()]
    given = [torch.stack([t, t.flip(-1)]) for t in tensors]
    padding = torch.rand(2, 1, 7, device=device) < 0.7

    def of_sample(name):
        def loss(q, k, v, gamma, eta, delta, rho, mask):
            scalars = {"gamma": gamma, "eta": eta, "delta": delta, "length_exponent": rho}
            return inhibitor_attention(q, k, v, **scalars, key_padding_mask=mask, engine=name).square().sum()

        return grad(loss, argnums=tuple(range(7)))

    for in_dims in ((0, 0, 0, None, None, None, None, 0), (None, None, None, 0, 0, 0, 0, None)):
        taken = [t if d == 0 else t[0] for t, d in zip((*given, padding), in_dims, strict=True)]
        found, expected = (vmap(of_sample(name), in_dims)(*taken) for name in ("triton", "reference"))
        for got, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


def test_what_it_cannot_serve_it_refuses(device):
    q, k, v = qkv(device)

    def of(q):
        return inhibitor_attention(q, k, v, engine="triton")

    with pytest.raises(ValueError, match="engine 'triton' cannot serve this call: it has no forward-mode derivatives"):
        jvp(of, (q,), (q,))
    with pytest.raises(ValueError, match=r"engine 'triton' cannot serve this call: torch\.jit\.trace records"):
        torch.jit.trace(of, q)
    assert torch.equal(make_fx(of)(q)(2 * q), of(2 * q))


def test_nothing_is_saved_for_a_backward_pass_that_will_not_come(device, monkeypatch):
    seen = []
    forward = engine._forward
    watched = Kernels(lambda *args: seen.append(args[3]) or forward(*args), engine._backward, saved=6)
    monkeypatch.setitem(KERNELS, "triton", watched)
    q, k, v = qkv(device)
    inhibitor_attention(q, k, v, engine="triton")
    inhibitor_attention(q, k, v.requires_grad_(), engine="triton")
    with torch.no_grad():
        inhibitor_attention(q, k, v, engine="triton")
    assert seen == [False, True, False]


@pytest.mark.gpu
def test_cuda_graphs(device):
    args = layer_inputs(device, 4, 96)
    with torch.no_grad():
        expected = layer(*args)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = layer(*args)
        out.zero_()
        graph.replay()
    assert torch.equal(out, expected)


@pytest.mark.gpu
def test_a_second_device_is_served_on_that_device():
    if torch.cuda.device_count() < 2:
        pytest.skip("NO SECOND GPU HERE")
    args = layer_inputs(torch.device("cuda:1"), 2, 40)
    assert torch.equal(layer(*args).cpu(), layer(*(t.to("cuda:0") for t in args)).cpu())


def test_offsets_beyond_31_bits(device):
    """Rows that lie 2^31 elements apart: a view of a storage of 4 GB that is never touched elsewhere."""
    storage = torch.empty((1 << 31) + 64, dtype=torch.bfloat16, device=device)
    far = storage.as_strided((1, 1, 2, 4), (0, 0, 1 << 31, 1))
    far.copy_(on_grid(1, 1, 2, 4))
    near = far.clone()
    expected = inhibitor_attention(near, near, near, engine="triton")
    assert torch.equal(inhibitor_attention(far, far, far, engine="triton"), expected)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_calls_of_every_kind_compile(tmp_path):
    """Through the launcher and Triton's own binding of arguments, for a GPU that is not there."""
    environment = {k: v for k, v in os.environ.items() if k != engine.INTERPRETER_VARIABLE}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-m", "tests.attention.triton.compile_calls"]
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert all(name in run.stdout for name in ("forward_kernel", "bwd_dq_kernel", "bwd_dkdv_kernel"))


def test_tuning_happens_once_for_a_head_dimension_and_dtype(monkeypatch):
    monkeypatch.setattr(tile_config, "_found", {})
    timed = []

    def time_with(candidate: tile_config.TileConfig) -> float:
        timed.append(candidate)
        return float("inf") if candidate.rows == 128 else candidate.columns

    off = tile_config.choose("forward", 64, 64, torch.float32, time_with)
    assert off == tile_config.default("forward", 64)
    assert not timed
    monkeypatch.setenv(tile_config.TUNE_VARIABLE, "1")
    best = tile_config.choose("forward", 64, 64, torch.float32, time_with)
    assert best.columns == min(c.columns for c in timed if c.rows != 128)
    count = len(timed)
    assert count == 1 + len(tile_config.CANDIDATES)
    assert tile_config.choose("forward", 64, 64, torch.float32, time_with) == best
    assert len(timed) == count
    tile_config.choose("forward", 64, 32, torch.float32, time_with)
    tile_config.choose("forward", 64, 64, torch.bfloat16, time_with)
    assert len(timed) == 3 * count
