"""The public function of integer attention: engines, refusals, dtypes, compilation."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import QuantParams, integer_attention
from inhibitor_transformers.attention.integer import functional as dispatch
from tests.attention.cases import random_bools

compiled = pytest.mark.skipif(library.unavailable() is not None, reason="no compiled kernels")


def test_auto_is_every_engine(layer):
    expected = integer_attention(*layer, engine="reference")
    assert expected.shape == (2, 4, 9, 8)
    assert expected.dtype == torch.float32
    for engine in ("auto", *dispatch.ENGINES):
        if engine != "cpu" or library.unavailable() is None:
            assert torch.equal(integer_attention(*layer, engine=engine), expected)


@compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_are_read_as_float32(layer, dtype):
    q, k, v, qparams = layer
    lower = [t.to(dtype) for t in (q, k, v)]
    expected = integer_attention(*(t.float() for t in lower), qparams, engine="reference")
    for engine in dispatch.ENGINES:
        assert torch.equal(integer_attention(*lower, qparams, engine=engine), expected)


@compiled
@pytest.mark.parametrize("empty", ["batch", "queries", "keys"])
def test_nothing_in_nothing_out(layer, empty):
    q, k, v, qparams = layer
    if empty == "batch":
        q, k, v = q[:0], k[:0], v[:0]
    elif empty == "queries":
        q = q[:, :, :0]
    else:
        k, v = k[:, :, :0], v[:, :, :0]
    for engine in dispatch.ENGINES:
        out = integer_attention(q, k, v, qparams, engine=engine)
        assert out.shape == (*q.shape[:3], 8)
        assert not out.any()


@compiled
def test_a_masked_key_does_not_exist(layer):
    q, k, v, qparams = layer
    mask = random_bools(3, 2, 12)
    expected = integer_attention(q, k, v, qparams, key_padding_mask=mask)
    k, v = (t.masked_fill(~mask[:, None, :, None], float("nan")) for t in (k, v))
    for engine in dispatch.ENGINES:
        assert torch.equal(integer_attention(q, k, v, qparams, key_padding_mask=mask, engine=engine), expected)
    # Nor does padding that is added.
    k, v = (torch.cat([t, torch.full_like(t[:, :, :5], 1e9)], 2) for t in (k, v))
    longer = torch.cat([mask, torch.zeros(2, 5, dtype=torch.bool)], 1)
    assert torch.equal(integer_attention(q, k, v, qparams, key_padding_mask=longer), expected)


@compiled
def test_any_strides(layer):
    q, k, v, qparams = layer
    expected = integer_attention(q, k, v, qparams)
    assert torch.equal(integer_attention(*(t.repeat_interleave(2, -1)[..., ::2] for t in (q, k, v)), qparams), expected)
    last = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    assert torch.equal(integer_attention(*last, qparams), expected)


@compiled
def test_compiled_and_exported(layer):
    *tensors, qparams = layer

    class Layer(torch.nn.Module):
        def forward(self, q, k, v):
            return integer_attention(q, k, v, qparams, engine="cpu") + 1

    expected = Layer()(*tensors)
    assert torch.equal(torch.compile(Layer(), backend="eager", fullgraph=True)(*tensors), expected)
    assert torch.equal(torch.export.export(Layer(), tuple(tensors)).module()(*tensors), expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda q, k, v: (q[:, :2], k[:, :1], v[:, :1]), "QuantParams are for"),
        (
            lambda q, k, v: (q[..., :8], k[..., :8], v),
            r"are \(4, 2, 8\), but the QuantParams are for \(4, 2, 16\)",
        ),
        (lambda q, k, v: (q, k, v[:, :, :3]), "same length"),
        (lambda q, k, v: (q[0], k, v), "4 dimensions"),
    ],
)
def test_tensors_that_do_not_fit(layer, change, said):
    *tensors, qparams = layer
    with pytest.raises(ValueError, match=said):
        integer_attention(*change(*tensors), qparams)


def test_unknown_engine(layer):
    with pytest.raises(ValueError, match=r"unknown engine 'gpu'; known: \['auto', 'cpu', 'reference'\]"):
        integer_attention(*layer, engine="gpu")


@pytest.mark.parametrize("why", ["unavailable", "refuses"])
def test_an_engine_that_cannot_serve(layer, why, monkeypatch):
    monkeypatch.setattr(dispatch.cpu, "unavailable", lambda: "no library" if why == "unavailable" else None)
    monkeypatch.setattr(dispatch.cpu, "refuses", lambda call: "no library" if why == "refuses" else None)
    with pytest.raises(ValueError, match="engine 'cpu' cannot serve this call: no library"):
        integer_attention(*layer, engine="cpu")
    monkeypatch.setattr(dispatch.cpu, "run", None)
    assert torch.equal(integer_attention(*layer), integer_attention(*layer, engine="reference"))


def test_more_keys_than_a_sum_can_hold(layer):
    q, k, v, _ = layer
    one = torch.ones(4)
    qparams = QuantParams.from_tensors(q, k, v, gamma=one, eta=one, delta=one, length_exponent=one, bits=16)
    k, v = (t[:, :, :1].expand(-1, -1, 65_539, -1) for t in (k, v))
    with pytest.raises(ValueError, match="16 bits allow 65538 keys, got 65539"):
        integer_attention(q, k, v, qparams)
    assert integer_attention(q[:, :, :1], k[:, :, 1:], v[:, :, 1:], qparams).isfinite().all()


@pytest.mark.parametrize("of", ["query", "key", "value"])
def test_a_gradient_is_refused_when_it_is_asked_for(layer, of):
    *tensors, qparams = layer
    tensors[["query", "key", "value"].index(of)].requires_grad_()
    out = integer_attention(*tensors, qparams)
    with pytest.raises(RuntimeError, match="integers have no gradient"):
        out.sum().backward()
