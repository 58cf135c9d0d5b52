"""The short way of plain eager inference: the same bits as the long one, and nothing that is not plain takes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import InhibitorScalars, direct, dispatch, inhibitor_attention, reference
from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.engine import Engine

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)


def qkv(batch: int = 2, heads: int = 4, kv_heads: int = 2, queries: int = 3, keys: int = 5) -> tuple[Tensor, ...]:
    return (torch.randn(batch, heads, queries, 8), *torch.randn(2, batch, kv_heads, keys, 8))


def scalars_of(*more: str, heads: int = 4) -> dict[str, Any]:
    drawn = {name: torch.rand(heads) + 0.5 for name in ("gamma", "eta", "delta", *more)}
    return drawn | {"length_reference": 64.0}


@pytest.mark.parametrize("more", [(), ("length_exponent",), ("key_norm", "unit"), ("length_exponent", "unit")])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("options", [{}, {"is_causal": True, "center": "min"}, {"signed": False, "center": "none"}])
def test_same_bits(more: tuple[str, ...], queries: int, options: dict[str, Any]) -> None:
    tensors, scalars = qkv(queries=queries), scalars_of(*more)
    none = dict.fromkeys(("key_padding_mask", "attn_mask", "score_bias")) | {"dropout_p": 0.0}
    with torch.no_grad():
        found = direct.attend_directly(*tensors, scalars, options | none)
        assert found is not None
        assert torch.equal(found, inhibitor_attention(*tensors, **scalars, **options, engine="cpu"))


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {"key_padding_mask": torch.ones(2, 5, dtype=torch.bool)},
        {"attn_mask": torch.ones(3, 5, dtype=torch.bool)},
        {"score_bias": torch.zeros(1, 3, 5)},
        {"dropout_p": 0.5},
        {"engine": "reference"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_options_take_the_long_way(options: dict[str, Any]) -> None:
    assert direct.attend_directly(*qkv(), scalars_of(), options) is None


@torch.no_grad()
@pytest.mark.parametrize("wrong", ["dtype", "heads", "keys", "features", "batch", "rank", "scalar", "meta", "subclass"])
def test_what_does_not_fit_takes_the_long_way(wrong: str) -> None:
    (q, k, v), scalars = qkv(), scalars_of()
    if wrong == "subclass":
        q = q.as_subclass(type("Marked", (Tensor,), {}))
    if wrong == "scalar":
        scalars["eta"] = torch.ones(3)
    changes = {
        "dtype": lambda: (q.half(), k.half(), v.half()),
        "heads": lambda: (q[:, :3], k, v),
        "keys": lambda: (q, k[:, :, 1:], v),
        "features": lambda: (q, k[..., 1:], v),
        "batch": lambda: (q[:1], k, v),
        "rank": lambda: (q[0], k[0], v[0]),
        "meta": lambda: (q.to("meta"), k.to("meta"), v.to("meta")),
    }
    assert direct.attend_directly(*changes.get(wrong, lambda: (q, k, v))(), scalars, {}) is None


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [{"center": "median"}, {"center": None}, {"attn_msk": None}, {"engine": None}, {"dropout_p": None}],
    ids=str,
)
def test_wrong_options_raise_what_the_long_way_raises(options: dict[str, Any]) -> None:
    tensors, scalars = qkv(), InhibitorScalars(4)
    with pytest.raises((ValueError, TypeError)) as short:
        scalars(*tensors, **options)
    with torch.enable_grad(), pytest.raises(type(short.value)) as long:
        scalars(*tensors, **options)
    assert str(short.value) == str(long.value)


@torch.no_grad()
@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), "64"])
def test_a_wrong_length_reference(wrong: Any) -> None:
    with pytest.raises(ValueError, match="length_reference"):
        InhibitorScalars(4, length_reference=wrong)
    scalars = InhibitorScalars(4)
    scalars.length_reference = wrong
    with pytest.raises(ValueError, match="length_reference"):
        scalars(*qkv())


@torch.no_grad()
@pytest.mark.parametrize("layout", ["sparse", "nested"])
def test_other_layouts_raise_what_the_long_way_raises(layout: str) -> None:
    q, k, v = qkv()
    query = q.to_sparse() if layout == "sparse" else torch.nested.nested_tensor(list(q))
    with pytest.raises(ValueError, match="must be a dense tensor"):
        InhibitorScalars(4)(query, k, v)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
def test_a_trace_does_not_warn() -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scalars = InhibitorScalars(4)

        def forward(self, *tensors: Tensor) -> Tensor:
            output: Tensor = self.scalars(*tensors)[0]
            return output

    with torch.no_grad():
        torch.jit.trace(Layer(), qkv(), check_trace=False)


def test_gradients_take_the_long_way() -> None:
    assert direct.attend_directly(*qkv(), scalars_of(), {}) is None


@torch.no_grad()
def test_whoever_watches_sees_the_operator() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    names: list[str] = []
    with Seen():
        InhibitorScalars(4)(*qkv())
    assert any("inhibitor.attention" in name for name in names)


@torch.no_grad()
def test_an_engine_that_comes_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(call: Any) -> Tensor:
        calls.append(call)
        return reference.run(call)

    mine = Engine("mine", lambda: "", run, lambda: None, lambda call: None, device="cpu")
    scalars, tensors = InhibitorScalars(4), qkv()
    scalars(*tensors)
    assert not calls
    monkeypatch.setattr(dispatch, "ENGINES", (mine, *dispatch.ENGINES))
    scalars(*tensors)
    assert len(calls) == 1
    monkeypatch.undo()
    scalars(*tensors)
    assert len(calls) == 1
