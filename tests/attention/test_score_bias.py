"""The bias of the scores, in the reference and within torch: values, derivatives, masks, what records it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap

from inhibitor_transformers.attention import InhibitorScalars, inhibition_scores, inhibitor_attention
from tests.attention.brute_force import brute_force, brute_force_scores
from tests.attention.cases import (
    MASKS,
    Inputs,
    Shape,
    assert_close,
    assert_derivatives,
    assert_same_in_chunks,
    chunks_of,
    masks,
    random_inputs,
    run,
)
from tests.attention.transform_cases import NAMES, assert_agrees, engines, forward_engines

SHAPE = Shape(batch=2, heads=4, kv_heads=2, queries=5, keys=6)
TINY = Shape(batch=2, heads=2, kv_heads=1, queries=3, keys=4, features=2, value_features=2)


def biased(shape: Shape, heads: int | None = None, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """Random inputs with a bias for each head, or for `heads`."""
    size = (heads or shape.heads, shape.queries, shape.keys)
    bias = torch.randn(size, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return random_inputs(shape, seed, dtype) | {"score_bias": bias.to(dtype)}


@pytest.mark.parametrize("chunk", [1, 40, 1 << 20], ids=["row by row", "small chunks", "one chunk"])
@pytest.mark.parametrize(("signed", "center"), list(itertools.product((True, False), ("mean", "none"))))
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("heads", [1, 4])
def test_matches_brute_force(heads: int, kind: str, signed: bool, center: str, chunk: int) -> None:
    inputs, options = biased(SHAPE, heads), masks(kind, SHAPE) | {"center": center}
    with chunks_of(chunk):
        found = inhibitor_attention(**inputs, **options, signed=signed, engine="reference")
        names = ("query", "key", "gamma", "delta", "score_bias")
        scores = inhibition_scores(**{name: inputs[name] for name in names}, **options)
    assert_close(found, brute_force(**inputs, **options, signed=signed))
    assert_close(scores, brute_force_scores(**{name: inputs[name] for name in names}, **options))


@pytest.mark.parametrize(("signed", "center"), list(itertools.product((True, False), ("mean", "none"))))
@pytest.mark.parametrize("kind", ["no mask", "all masks"])
@pytest.mark.parametrize("heads", [1, 2])
def test_gradcheck(heads: int, kind: str, signed: bool, center: str) -> None:
    assert_derivatives(biased(TINY, heads, seed=3), **masks(kind, TINY), signed=signed, center=center)


@pytest.mark.parametrize("chunk", [1, 40, 200])
@pytest.mark.parametrize("heads", [1, 4])
def test_chunks_do_not_change_gradients(heads: int, chunk: int) -> None:
    assert_same_in_chunks(biased(SHAPE, heads), chunk, **masks("all masks", SHAPE))


@engines
def test_a_bias_of_a_sequence_of_positions_is_what_a_coordinate_would_add(engine: str) -> None:
    """ALiBi: γ/√D · c|i − j| is one more coordinate of query and key, at the scale of the others' root."""
    inputs = random_inputs(Shape(queries=6), dtype=torch.float32)
    inputs["gamma"] = torch.ones(4)
    where, slope = torch.arange(6.0), 0.7
    distance = slope * (where[:, None] - where).abs()[None]
    found = inhibitor_attention(**inputs, score_bias=distance, engine=engine)
    features = inputs["query"].shape[-1]
    column = (slope * features**0.5 * where)[:, None]
    wide = {
        name: torch.cat([inputs[name], column.expand(*inputs[name].shape[:3], 1)], dim=-1) for name in ("query", "key")
    }
    wide["gamma"] = inputs["gamma"] * ((features + 1) / features) ** 0.5
    assert_agrees(found, inhibitor_attention(**inputs | wide, engine=engine))


@engines
def test_a_constant_is_centered_away_and_is_a_shift_without_centering(engine: str) -> None:
    inputs = random_inputs(SHAPE, dtype=torch.float32)
    constant = torch.full((1, 5, 6), 0.75)
    options: dict[str, Any] = {"engine": engine}
    assert_agrees(
        inhibitor_attention(**inputs, score_bias=constant, **options), inhibitor_attention(**inputs, **options)
    )
    options["center"] = "none"
    shifted = inhibitor_attention(**inputs | {"delta": inputs["delta"] + 0.75}, **options)
    assert_agrees(inhibitor_attention(**inputs, score_bias=constant, **options), shifted)


@engines
def test_zero_changes_nothing(engine: str) -> None:
    inputs = random_inputs(SHAPE, dtype=torch.float32)
    for kind in MASKS:
        options = masks(kind, SHAPE) | {"engine": engine}
        found = inhibitor_attention(**inputs, score_bias=torch.zeros(1, 5, 6), **options)
        assert_agrees(found, inhibitor_attention(**inputs, **options))


@engines
@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["pairs", "causal", "padding"])
def test_the_bias_of_invalid_pairs_has_no_effect_and_no_gradient(engine: str, kind: str, junk: float) -> None:
    """A pair that no sequence of the batch sees."""
    shape = Shape(queries=6, batch=2)
    options: dict[str, Any] = masks(kind, shape)
    if kind == "causal":
        seen = torch.ones(6, 6, dtype=torch.bool).tril()
    elif kind == "pairs":
        seen = options["attn_mask"].any(0)[0]
    else:
        options["key_padding_mask"][:, 2] = False
        seen = options["key_padding_mask"].any(0).expand(6, 6)
    assert not seen.all()
    inputs = biased(shape, dtype=torch.float32)
    clean = run(inputs, **options, engine=engine)
    dirty = run(inputs | {"score_bias": inputs["score_bias"].masked_fill(~seen, junk)}, **options, engine=engine)
    assert torch.equal(clean.output, dirty.output)
    for name, gradient in clean.gradients.items():
        assert torch.equal(dirty.gradients[name], gradient), name
    assert clean.gradients["score_bias"][:, ~seen].eq(0).all()
    assert clean.gradients["score_bias"][:, seen].ne(0).any()


@engines
def test_nan_in_the_bias_of_a_valid_pair_is_not_hidden(engine: str) -> None:
    inputs = biased(SHAPE, dtype=torch.float32)
    inputs["score_bias"][1, 2, 3] = math.nan
    out = inhibitor_attention(**inputs, engine=engine)
    assert out[:, 1, 2].isnan().all()
    out[:, 1, 2] = 0.0
    assert out.isfinite().all()


@engines
@pytest.mark.parametrize("heads", [1, 4])
def test_a_tie_takes_the_zero_subgradient(engine: str, heads: int) -> None:
    """S − mean S + δ = 0 exactly: nothing flows to the bias; and where it is positive, minus what passes."""
    zeros = torch.zeros(1, 4, 1, 2)
    bias = torch.tensor([0.5, -0.5]).expand(heads, 1, 2).clone().requires_grad_()
    options: dict[str, Any] = {"gamma": 1.0, "delta": 0.5, "engine": engine}
    out = inhibitor_attention(zeros, torch.zeros(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0), score_bias=bias, **options)
    assert out.eq(3.0 + 2.0).all()
    (gradient,) = torch.autograd.grad(out.sum(), bias)
    of_pair = torch.tensor([-2.0, 0.0]) - (-1.0)  # two features pass; less the mean of both keys
    assert torch.equal(gradient, (of_pair * 4 / heads).expand_as(gradient))


@engines
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_either_dtype(engine: str, dtype: torch.dtype) -> None:
    inputs = biased(SHAPE, dtype=dtype)
    half, single = (
        run(inputs | {"score_bias": inputs["score_bias"].to(given)}, engine=engine) for given in (dtype, torch.float32)
    )
    assert torch.equal(half.output, single.output)
    assert half.gradients["score_bias"].dtype == dtype
    assert torch.equal(half.gradients["score_bias"], single.gradients["score_bias"].to(dtype))


@engines
def test_dropout(engine: str) -> None:
    inputs = biased(SHAPE, dtype=torch.float32)
    results = []
    for name in (engine, "reference"):
        torch.manual_seed(1)
        results.append(inhibitor_attention(**inputs, dropout_p=0.5, engine=name))
    assert_agrees(*results)


def test_the_module_of_the_scalars_passes_it_on() -> None:
    inputs = biased(SHAPE, dtype=torch.float32)
    qkv, bias = [inputs[name] for name in ("query", "key", "value")], inputs["score_bias"]
    scalars = InhibitorScalars(4)
    out, scores = scalars(*qkv, need_scores=True, score_bias=bias)
    arguments = scalars.as_arguments()
    assert torch.equal(out, inhibitor_attention(*qkv, score_bias=bias, **arguments))
    given = {name: arguments[name] for name in ("gamma", "delta")}
    assert torch.equal(scores, inhibition_scores(*qkv[:2], score_bias=bias, **given))


# Within torch


def loss(engine: str, **options: Any) -> Any:
    def of(*tensors: Tensor) -> Tensor:
        named = dict(zip((*NAMES, "score_bias"), tensors, strict=True))
        return inhibitor_attention(**named, **options, engine=engine).square().sum()

    return of


def true_gradients(heads: int, **options: Any) -> tuple[Tensor, ...]:
    leaves = [t.requires_grad_() for t in biased(TINY, heads).values()]
    return torch.autograd.grad(loss("reference", **options)(*leaves), leaves)


def given(heads: int) -> list[Tensor]:
    return list(biased(TINY, heads, dtype=torch.float32).values())


ALL = tuple(range(8))
heads_of_bias = pytest.mark.parametrize("heads", [1, 2])


@engines
@heads_of_bias
@pytest.mark.parametrize("kind", ["no mask", "all masks"])
def test_grad(engine: str, heads: int, kind: str) -> None:
    options = masks(kind, TINY)
    assert_agrees(grad(loss(engine, **options), argnums=ALL)(*given(heads)), true_gradients(heads, **options))


@engines
@heads_of_bias
def test_second_derivatives(engine: str, heads: int) -> None:
    def second(engine: str, tensors: Any) -> tuple[Tensor, ...]:
        leaves = [t.requires_grad_() for t in tensors]
        first = torch.autograd.grad(loss(engine)(*leaves), leaves, create_graph=True)
        return torch.autograd.grad(sum((g.sin() * (i + 1)).sum() for i, g in enumerate(first)), leaves)

    expected = second("reference", biased(TINY, heads).values())
    assert_agrees(second(engine, given(heads)), expected, tolerance=1e-4)
    assert_agrees(jacrev(jacrev(loss(engine), argnums=7), argnums=7)(*given(heads)), true_hessian(heads))


def true_hessian(heads: int) -> Tensor:
    *others, bias = biased(TINY, heads).values()
    return torch.autograd.functional.hessian(lambda b: loss("reference")(*others, b), bias)


@engines
@heads_of_bias
def test_gradients_for_each_sample(engine: str, heads: int) -> None:
    """The gradient of the bias is a sum over the batch: one for each call."""
    q, k, v, *rest = given(heads)

    def of_one(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> Tensor:
        return loss(engine)(q[None], k[None], v[None], *rest)

    found = vmap(grad(of_one, argnums=ALL), in_dims=(0, 0, 0, *[None] * 5))(q, k, v, *rest)
    for i in range(2):
        expected = grad(of_one, argnums=ALL)(q[i], k[i], v[i], *rest)
        assert_agrees([g[i] for g in found], expected)


@engines
@heads_of_bias
def test_vmap_over_the_bias(engine: str, heads: int) -> None:
    *others, bias = given(heads)
    several = torch.stack([bias, -bias, 2 * bias])
    found = vmap(grad(lambda b: loss(engine)(*others, b)))(several)
    assert_agrees(found, torch.stack([grad(lambda b: loss(engine)(*others, b))(b) for b in several]))


@forward_engines
def test_forward_mode(engine: str) -> None:
    *others, bias = given(2)
    direction = torch.randn_like(bias)
    _, found = torch.func.jvp(lambda b: loss(engine)(*others, b), (bias,), (direction,))
    assert_agrees(found, (true_gradients(2)[-1] * direction).sum())


@engines
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_compiles(engine: str, trained: bool) -> None:
    torch.compiler.reset()
    *others, bias = given(2)
    leaves = [t.requires_grad_() for t in others] + ([bias.requires_grad_()] if trained else [])
    compiled = torch.compile(loss(engine), backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(*others, bias), leaves)
    assert_agrees(found, true_gradients(2)[: len(leaves)])


class Layer(torch.nn.Module):
    """Relative positions: the bias is computed in the graph, of the length that comes."""

    def __init__(self, engine: str = "auto") -> None:
        super().__init__()
        self.engine = engine
        self.slope = torch.nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        where = torch.arange(q.shape[2])
        bias = self.slope[:, None, None] * (where[:, None] - where).abs()
        return inhibitor_attention(q, k, v, score_bias=bias, delta=0.3, engine=self.engine)


def qkv(batch: int, length: int) -> tuple[Tensor, ...]:
    shape = Shape(batch=batch, heads=2, kv_heads=2, queries=length, keys=length, features=4)
    return tuple(list(random_inputs(shape, dtype=torch.float32).values())[:3])


@engines
def test_exports_with_dynamic_sizes(engine: str) -> None:
    layer, dims = Layer(engine), {0: torch.export.Dim("batch", max=64), 2: torch.export.Dim("length", max=512)}
    program = torch.export.export(layer, qkv(2, 9), dynamic_shapes=(dims,) * 3)
    for size in ((2, 9), (3, 17), (5, 40)):
        torch.testing.assert_close(program.module()(*qkv(*size)), layer(*qkv(*size)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_torch_onnx_export(tmp_path: Any) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs onnx, onnxscript and onnxruntime")
    import onnxruntime

    dims, file = {0: torch.export.Dim("batch"), 2: torch.export.Dim("length")}, tmp_path / "attention.onnx"
    torch.onnx.export(Layer(), qkv(2, 5), file, dynamo=True, dynamic_shapes=(dims,) * 3, verbose=False)
    session = onnxruntime.InferenceSession(file)
    for size in ((2, 5), (3, 9)):
        names = [i.name for i in session.get_inputs()]
        found = session.run(None, {name: t.numpy() for name, t in zip(names, qkv(*size), strict=True)})
        assert_agrees(torch.from_numpy(found[0]), Layer()(*qkv(*size)))


@forward_engines
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_trace_serves_other_numbers(engine: str) -> None:
    traced = torch.jit.trace(loss(engine), given(2))
    others = [t * 0.7 for t in given(2)]
    assert_agrees(traced(*others), loss("reference")(*others))
