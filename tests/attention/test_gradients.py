"""First and second derivatives of the reference: away from kinks numerically, at kinks on exact numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from inhibitor_transformers.attention import inhibition_scores, inhibitor_attention
from inhibitor_transformers.attention.reference import CHUNK_ELEMENTS
from tests.attention.cases import (
    Inputs,
    Shape,
    assert_close,
    assert_same_result,
    chunks_of,
    random_bools,
    random_inputs,
    run,
    weights_for,
)

TINY = Shape(batch=2, heads=2, kv_heads=1, queries=3, keys=4, features=2, value_features=2)
PADDING = torch.tensor([[True, True, False, True], [False, True, True, True]])
PAIRS = random_bools(1, 1, 2, 3, 4)
MASKS: dict[str, dict[str, Any]] = {
    "no mask": {},
    "padding": {"key_padding_mask": PADDING},
    "all masks": {"key_padding_mask": PADDING, "attn_mask": PAIRS, "is_causal": True},
}
OPTIONS = [
    pytest.param(MASKS[mask] | {"signed": signed, "center": center}, id=f"{mask}-{signed=}-{center}")
    for mask, signed, center in itertools.product(MASKS, (True, False), ("mean", "none", "min"))
]


def distance_to_a_kink(inputs: Inputs, options: dict[str, Any]) -> float:
    """The least of |q − k|, |S − mean + δ| and |v − Z|, |v + Z| or |v|, over the valid pairs."""
    heads = inputs["query"].shape[1]
    q, k, v = inputs["query"], inputs["key"].expand(-1, heads, -1, -1), inputs["value"].expand(-1, heads, -1, -1)
    valid = torch.ones(*q.shape[:3], k.shape[2], dtype=torch.bool)
    if "key_padding_mask" in options:
        valid = valid & options["key_padding_mask"][:, None, None, :]
    if "attn_mask" in options:
        valid = valid & options["attn_mask"]
    if options.get("is_causal"):
        valid = valid & torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    difference = q[:, :, :, None] - k[:, :, None]
    s = difference.abs().sum(-1) / q.shape[-1] ** 0.5 * inputs["gamma"][:, None, None]
    mean = (s * valid).sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp(min=1)
    two_least = s.masked_fill(~valid, torch.inf).topk(2, largest=False).values
    least = two_least[..., :1].nan_to_num(posinf=0.0)
    subtracted = {"mean": mean, "min": least, "none": torch.zeros(())}[options["center"]]
    shifted = s - subtracted + inputs["delta"][:, None, None]
    z = shifted.relu().unsqueeze(-1)
    v = v[:, :, None]
    kinks = [difference.abs().amin(-1), shifted.abs(), (v - z).abs().amin(-1)]
    if options["signed"]:
        kinks.append((v + z).abs().amin(-1))
    gap = [(two_least[..., 1] - two_least[..., 0]).nan_to_num(1.0).min().item()] if options["center"] == "min" else []
    return min([*(kink[valid].min().item() for kink in kinks), *gap])


def away_from_kinks(options: dict[str, Any]) -> Inputs:
    for seed in range(1000):
        inputs = random_inputs(TINY, seed)
        if distance_to_a_kink(inputs, options) > 1e-4:
            return inputs
    raise AssertionError("no inputs away from kinks found")


def function_of_tensors(options: dict[str, Any], names: list[str]) -> Callable[..., Tensor]:
    def function(*tensors: Tensor) -> Tensor:
        return inhibitor_attention(
            **dict(zip(names, tensors, strict=True)), **options, length_reference=3, engine="reference"
        )

    return function


@pytest.mark.parametrize("options", OPTIONS)
def test_gradcheck(options: dict[str, Any]) -> None:
    inputs = away_from_kinks(options)
    leaves = [t.requires_grad_() for t in inputs.values()]
    assert gradcheck(function_of_tensors(options, list(inputs)), leaves)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradgradcheck(options: dict[str, Any]) -> None:
    inputs = away_from_kinks(options)
    leaves = [t.requires_grad_() for t in inputs.values()]
    assert gradgradcheck(function_of_tensors(options, list(inputs)), leaves)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_second_derivatives_go_through_recomputed_chunks(signed: bool) -> None:
    options = MASKS["all masks"] | {"signed": signed}
    inputs = random_inputs(TINY)

    def second_derivatives() -> tuple[Tensor, ...]:
        leaves = [t.clone().requires_grad_() for t in inputs.values()]
        output = function_of_tensors(options, list(inputs))(*leaves)
        gradients = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), leaves)

    expected = second_derivatives()
    with chunks_of(10):
        for actual, wanted in zip(second_derivatives(), expected, strict=True):
            assert_close(actual, wanted)


@pytest.mark.parametrize("center", ["mean", "none"])
@pytest.mark.parametrize("mask", MASKS)
def test_gradcheck_of_scores(mask: str, center: str) -> None:
    options = MASKS[mask] | {"center": center}
    inputs = away_from_kinks(options | {"signed": True})
    names = ("query", "key", "gamma", "delta")

    def finite_scores(*tensors: Tensor) -> Tensor:
        z = inhibition_scores(**dict(zip(names, tensors, strict=True)), **options)
        return z[z.isfinite()]

    leaves = [inputs[name].requires_grad_() for name in names]
    assert gradcheck(finite_scores, leaves)
    assert gradgradcheck(finite_scores, leaves)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("chunk", [1, 40, 200])
def test_chunks_do_not_change_gradients(options: dict[str, Any], chunk: int) -> None:
    inputs = random_inputs(TINY)
    whole = run(inputs, **options)
    with chunks_of(chunk):
        assert_same_result(run(inputs, **options), whole)


@pytest.mark.parametrize("name", ["query", "key", "value", "gamma", "eta", "delta", "length_exponent"])
@pytest.mark.parametrize("chunk", [1, CHUNK_ELEMENTS], ids=["row by row", "one chunk"])
def test_one_input_alone_can_require_a_gradient(name: str, chunk: int) -> None:
    inputs = random_inputs(Shape())
    expected = run(inputs).gradients[name]
    leaf = inputs[name].clone().requires_grad_()
    with chunks_of(chunk):
        output = inhibitor_attention(**inputs | {name: leaf})
        (gradient,) = torch.autograd.grad((output * weights_for(output)).sum(), leaf)
    assert_close(gradient, expected)


@pytest.mark.parametrize("gamma", [-1.5, 0.0, 1.5])
@pytest.mark.parametrize("eta", [-0.8, 0.0])
@pytest.mark.parametrize("delta", [-0.4, 0.6])
def test_gradients_flow_for_scalars_of_any_sign(gamma: float, eta: float, delta: float) -> None:
    """No gate at or below zero: the derivatives are those of the formula."""
    options = {"signed": True, "center": "mean"}
    for seed in range(100):
        inputs = random_inputs(TINY, seed)
        inputs |= {name: torch.full((2,), s, dtype=torch.float64) for name, s in [("gamma", gamma), ("delta", delta)]}
        inputs["eta"] = torch.full((2,), eta, dtype=torch.float64)
        if distance_to_a_kink(inputs, options) > 1e-4:
            break
    leaves = [t.requires_grad_() for t in inputs.values()]
    assert gradcheck(function_of_tensors(options, list(inputs)), leaves)
    gradients = run(inputs, **options).gradients
    assert gradients["eta"].abs().min() > 0


# Exact ties: one query, one feature, γ = η = 1, no centering, so that S = |q − k| and Z = relu(S + δ).


def tie(
    q: float, k: float, v: float, delta: float, signed: bool, engine: str, dtype: torch.dtype
) -> tuple[float, Inputs]:
    inputs = {
        "query": torch.full((1, 1, 1, 1), q, dtype=dtype),
        "key": torch.full((1, 1, 1, 1), k, dtype=dtype),
        "value": torch.full((1, 1, 1, 1), v, dtype=dtype),
        "gamma": torch.ones(1, dtype=dtype),
        "eta": torch.ones(1, dtype=dtype),
        "delta": torch.full((1,), delta, dtype=dtype),
    }
    result = run(inputs, weight=torch.ones(1, 1, 1, 1, dtype=dtype), signed=signed, center="none", engine=engine)
    return result.output.item(), {name: gradient.flatten() for name, gradient in result.gradients.items()}


engines = pytest.mark.parametrize(
    ("engine", "dtype"), [("reference", torch.float64), ("reference", torch.float32), ("auto", torch.float32)]
)
both_shrinks = pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])


@engines
@both_shrinks
def test_no_tie_for_comparison(signed: bool, engine: str, dtype: torch.dtype) -> None:
    output, gradients = tie(q=3.0, k=1.0, v=5.0, delta=0.5, signed=signed, engine=engine, dtype=dtype)
    assert output == 2.5
    assert {name: g.item() for name, g in gradients.items()} == {
        "query": -1.0, "key": 1.0, "value": 1.0, "gamma": -2.0, "eta": 2.5, "delta": -1.0,
    }  # fmt: skip


@engines
@both_shrinks
def test_tie_of_query_and_key(signed: bool, engine: str, dtype: torch.dtype) -> None:
    output, gradients = tie(q=2.0, k=2.0, v=5.0, delta=1.0, signed=signed, engine=engine, dtype=dtype)
    assert output == 4.0
    assert gradients["query"] == gradients["key"] == 0.0
    assert gradients["value"] == 1.0
    assert gradients["delta"] == -1.0  # Z > 0 and v > Z: only the distance is at its kink


@engines
@both_shrinks
def test_tie_of_score_and_zero(signed: bool, engine: str, dtype: torch.dtype) -> None:
    output, gradients = tie(q=2.0, k=0.0, v=5.0, delta=-2.0, signed=signed, engine=engine, dtype=dtype)
    assert output == 5.0
    assert gradients["query"] == gradients["key"] == gradients["gamma"] == gradients["delta"] == 0.0
    assert gradients["value"] == 1.0


@engines
@pytest.mark.parametrize(("v", "signed"), [(2.0, True), (-2.0, True), (2.0, False)])
def test_tie_of_value_and_score(v: float, signed: bool, engine: str, dtype: torch.dtype) -> None:
    output, gradients = tie(q=3.0, k=1.0, v=v, delta=0.0, signed=signed, engine=engine, dtype=dtype)
    assert output == 0.0
    assert all(gradient == 0.0 for gradient in gradients.values())


@engines
@both_shrinks
def test_tie_of_value_score_and_zero(signed: bool, engine: str, dtype: torch.dtype) -> None:
    output, gradients = tie(q=1.0, k=1.0, v=0.0, delta=0.0, signed=signed, engine=engine, dtype=dtype)
    assert output == 0.0
    assert all(gradient == 0.0 for gradient in gradients.values())


@engines
@pytest.mark.parametrize(("v", "signed"), [(1.5, True), (-1.5, True), (1.5, False), (-9.0, False)])
def test_dead_pair_gives_nothing(v: float, signed: bool, engine: str, dtype: torch.dtype) -> None:
    output, gradients = tie(q=3.0, k=1.0, v=v, delta=0.0, signed=signed, engine=engine, dtype=dtype)
    assert output == 0.0
    assert all(gradient == 0.0 for gradient in gradients.values())


def test_ties_of_centered_scores() -> None:
    """Keys at equal distance: every S equals the mean, so Z = relu(0) and nothing flows through the scores."""
    inputs = {
        "query": torch.zeros(1, 1, 1, 1),
        "key": torch.tensor([-2.0, 2.0, 2.0]).view(1, 1, 3, 1),
        "value": torch.tensor([1.0, -3.0, 5.0]).view(1, 1, 3, 1),
        "gamma": torch.ones(1),
        "delta": torch.zeros(1),
    }
    result = run(inputs, weight=torch.ones(1, 1, 1, 1))
    assert result.output == 3.0
    assert all((result.gradients[name] == 0.0).all() for name in ("query", "key", "gamma", "delta"))
    assert (result.gradients["value"] == 1.0).all()
