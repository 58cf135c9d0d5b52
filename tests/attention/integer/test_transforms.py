"""Integer attention under what records, transforms or differentiates it: the same bits, or a clear error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import QuantizedScalars, integer_attention, integer_scores, reference
from tests.attention.cases import random_bools
from tests.attention.engine_cases import Shape
from tests.attention.integer.cases import random_qparams

SHAPE = Shape(batch=2, heads=4, kv_heads=2, queries=5, keys=6, dim=3, value_dim=4)
has_cpu = pytest.mark.skipif(library.unavailable() is not None, reason=f"engine cpu: {library.unavailable()}")
engines = pytest.mark.parametrize("engine", ["auto", "reference", pytest.param("cpu", marks=has_cpu)])
MASKS = ["no mask", "masks"]


def tensors(batch: int = 7, queries: int = 5, keys: int = 6) -> list[Tensor]:
    return [
        torch.randn(batch, 4, queries, 3),
        torch.randn(batch, 2, keys, 3),
        torch.randn(batch, 2, keys, 4),
        random_bools(1, batch, keys),
        random_bools(2, batch, 1, queries, keys),
    ]


def operation(mask: str, bits: int, engine: str = "auto") -> Any:
    qparams = random_qparams(SHAPE, bits)

    def of(q: Tensor, k: Tensor, v: Tensor, padding: Tensor, pairs: Tensor) -> Tensor:
        masks = {"key_padding_mask": padding, "attn_mask": pairs, "is_causal": True} if mask == "masks" else {}
        return integer_attention(q, k, v, qparams, **masks, engine=engine)

    return of


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("chunk", [1, 1 << 22], ids=["row by row", "one chunk"])
def test_a_trace_serves_other_numbers_and_sizes(
    mask: str, bits: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also sizes beyond the table of factors that calls in plain torch share."""
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", chunk)
    of = operation(mask, bits)
    traced = torch.jit.trace(of, tuple(tensors()))
    for given in (tensors(), tensors(3, 7, 9), tensors(1, 2, 600)):
        assert torch.equal(traced(*given), of(*given))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_trace_of_scores() -> None:
    qparams = random_qparams(SHAPE, 8)
    q, k, *_ = tensors()
    traced = torch.jit.trace(lambda q, k: integer_scores(q, k, qparams), (q, k))
    q, k, *_ = tensors(3, 7, 9)
    assert torch.equal(traced(q, k), integer_scores(q, k, qparams))


@engines
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(engine: str, mode: str) -> None:
    of = operation("masks", 8, engine)
    traced = make_fx(of, tracing_mode=mode, _allow_non_fake_inputs=True)(*tensors())
    for given in [tensors()] + ([tensors(9, 8, 10)] if mode == "symbolic" else []):
        assert torch.equal(traced(*given), of(*given))


def test_vmap() -> None:
    of = operation("masks", 8)
    given = [torch.stack([t, t.flip(-1)]) for t in tensors()]
    assert torch.equal(vmap(of)(*given), torch.stack([of(*g) for g in zip(*given, strict=True)]))
    assert torch.equal(
        vmap(of, (0, None, None, None, None))(given[0], *(g[0] for g in given[1:]))[0], of(*(g[0] for g in given))
    )


@has_cpu
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_the_compiled_engine_by_name_says_why_it_cannot() -> None:
    of = operation("masks", 8, "cpu")
    with pytest.raises(ValueError, match=r"engine 'cpu' cannot serve this call: torch\.jit\.trace records"):
        torch.jit.trace(of, tuple(tensors()))
    with pytest.raises(ValueError, match=r"engine 'cpu' cannot serve this call: it has no rules for torch\.func"):
        vmap(of)(*(t[None] for t in tensors()))


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_a_derivative_is_an_error_and_never_zero(engine: str) -> None:
    of = operation("masks", 8, engine)
    q, *rest = tensors()

    def total(q: Tensor) -> Tensor:
        return of(q, *rest).sum()

    with pytest.raises(RuntimeError, match="integers have no gradient"):
        grad(total)(q)
    with pytest.raises(RuntimeError, match="integers have no gradient"):
        vmap(grad(total))(q[None])
    with pytest.raises(RuntimeError, match="integers have no gradient"):
        jvp(total, (q,), (q,))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="integers have no gradient"):
        total(forward_ad.make_dual(q, q))
    with pytest.raises(RuntimeError, match="integers have no gradient"):
        torch.autograd.functional.hessian(total, q)


def test_what_is_made_inside_a_transform_does_not_outlive_it() -> None:
    of, given = operation("masks", 8), tensors()
    make_fx(of, tracing_mode="fake", _allow_non_fake_inputs=True)(*given)
    vmap(of)(*(t[None] for t in given))
    assert torch.equal(of(*given), operation("masks", 8)(*given))


def test_buffers_in_exchange_for_a_call_are_used() -> None:
    """Not those that were checked before, of which one alone may be exchanged."""

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inhibitor = QuantizedScalars(4, 2, 3)
            self.inhibitor.assign(random_qparams(SHAPE, 8))

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return integer_attention(q, k, v, self.inhibitor.qparams)

    layer, qkv = Layer(), tuple(tensors()[:3])
    before = layer(*qkv)
    doubled = {"inhibitor.scale": 2 * layer.inhibitor.scale}
    assert torch.equal(torch.func.functional_call(layer, doubled, qkv), 2 * before)
    assert torch.equal(layer(*qkv), before)
