"""Key norm and unit, in the reference and within torch: values, derivatives, masks, what records them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap
from torch.library import opcheck

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
from tests.attention.transform_cases import assert_agrees, engines, forward_engines

SHAPE = Shape(batch=2, heads=4, kv_heads=2, queries=5, keys=6)
TINY = Shape(batch=2, heads=2, kv_heads=1, queries=3, keys=4, features=2, value_features=2)
GIVEN = [("key_norm",), ("unit",), ("key_norm", "unit")]
CENTERS = ("mean", "none", "min")

some_given = pytest.mark.parametrize("given", GIVEN, ids="+".join)


def normalized(shape: Shape, given: tuple[str, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """Random inputs with λ of both signs and u of both signs, away from zero."""
    generator = torch.Generator().manual_seed(seed + 7)
    key_norm = torch.randn(shape.heads, generator=generator, dtype=torch.float64)
    unit = torch.randn(shape.heads, generator=generator, dtype=torch.float64)
    drawn = {"key_norm": key_norm, "unit": unit + unit.sign()}
    return random_inputs(shape, seed, dtype) | {name: drawn[name].to(dtype) for name in given}


@pytest.mark.parametrize("chunk", [40, 1 << 20], ids=["small chunks", "one chunk"])
@pytest.mark.parametrize(("signed", "center"), list(itertools.product((True, False), CENTERS)))
@pytest.mark.parametrize("kind", ["no mask", "causal", "all masks"])
@some_given
def test_matches_brute_force(given: tuple[str, ...], kind: str, signed: bool, center: str, chunk: int) -> None:
    inputs, options = normalized(SHAPE, given), masks(kind, SHAPE) | {"center": center}
    of_scores = {n: inputs[n] for n in ("query", "key", "gamma", "delta", "key_norm") if n in inputs}
    with chunks_of(chunk):
        found = inhibitor_attention(**inputs, **options, signed=signed, engine="reference")
        scores = inhibition_scores(**of_scores, **options)
    assert_close(found, brute_force(**inputs, **options, signed=signed))
    assert_close(scores, brute_force_scores(**of_scores, **options))


@pytest.mark.parametrize(("signed", "center"), list(itertools.product((True, False), CENTERS)))
@pytest.mark.parametrize("kind", ["no mask", "all masks"])
@some_given
def test_gradcheck(given: tuple[str, ...], kind: str, signed: bool, center: str) -> None:
    assert_derivatives(normalized(TINY, given, seed=3), **masks(kind, TINY), signed=signed, center=center)


@pytest.mark.parametrize("chunk", [1, 40, 200])
@some_given
def test_chunks_do_not_change_gradients(given: tuple[str, ...], chunk: int) -> None:
    assert_same_in_chunks(normalized(SHAPE, given), chunk, **masks("all masks", SHAPE))


@engines
def test_a_key_norm_is_what_one_more_feature_would_add(engine: str) -> None:
    """0 of queries and λ · (limit − Σ|k|) of keys, at the scale of the others' root; centering takes the limit away."""
    inputs = normalized(SHAPE, ("key_norm",), dtype=torch.float32)
    inputs["key_norm"] = inputs["key_norm"].abs()
    features, groups = SHAPE.features, SHAPE.heads // SHAPE.kv_heads
    key = inputs["key"].repeat_interleave(groups, 1)
    limit = key.abs().sum(-1, keepdim=True).max()
    feature = inputs["key_norm"][:, None, None] * (limit - key.abs().sum(-1, keepdim=True))
    wide = {
        "query": torch.nn.functional.pad(inputs["query"], (0, 1)),
        "key": torch.cat([key, feature], -1),
        "value": inputs["value"].repeat_interleave(groups, 1),
        "gamma": inputs["gamma"] * ((features + 1) / features) ** 0.5,
    }
    others = {name: inputs[name] for name in ("eta", "delta", "length_exponent")}
    for center in ("mean", "min"):
        found = inhibitor_attention(**inputs, center=center, engine=engine)
        assert_agrees(found, inhibitor_attention(**wide, **others, center=center, engine=engine))


@engines
def test_a_unit_counts_the_keys_that_pass(engine: str) -> None:
    """As one more feature of the values, u in every key, would: its sum is u times how many keys pass."""
    inputs = normalized(SHAPE, ("unit",), dtype=torch.float32) | {"length_exponent": torch.zeros(4)}
    unit = inputs.pop("unit").abs()
    counting = inputs | {"value": unit[:, None, None].expand(2, 4, 6, 1), "eta": torch.ones(4)}
    counting["key"] = inputs["key"].repeat_interleave(2, 1)
    for kind in MASKS:
        options = masks(kind, SHAPE) | {"engine": engine, "center": "min"}
        passed = inhibitor_attention(**counting, **options) / unit[:, None, None]
        found = inhibitor_attention(**inputs, unit=unit, **options)
        assert_agrees(found, inhibitor_attention(**inputs, **options) / passed.clamp(min=0.1))


@engines
def test_zero_and_equal_signs_change_nothing(engine: str) -> None:
    inputs = normalized(SHAPE, ("unit",), dtype=torch.float32)
    found = inhibitor_attention(**inputs, key_norm=0.0, engine=engine)
    assert torch.equal(found, inhibitor_attention(**inputs, engine=engine))
    assert torch.equal(found, inhibitor_attention(**inputs | {"unit": -inputs["unit"]}, engine=engine))


@engines
@some_given
@pytest.mark.parametrize("junk", [math.nan, math.inf])
def test_what_invalid_keys_hold_has_no_effect(engine: str, given: tuple[str, ...], junk: float) -> None:
    inputs, options = normalized(SHAPE, given, dtype=torch.float32), masks("padding", SHAPE)
    hidden = ~options["key_padding_mask"][:, None, :, None]
    dirty = {name: inputs[name].masked_fill(hidden, junk) for name in ("key", "value")}
    clean, found = (run(x, **options, engine=engine) for x in (inputs, inputs | dirty))
    assert torch.equal(clean.output, found.output)
    for name, gradient in clean.gradients.items():
        assert torch.equal(found.gradients[name], gradient), name


@engines
@some_given
def test_a_query_without_keys_gives_zero(engine: str, given: tuple[str, ...]) -> None:
    options = {"key_padding_mask": torch.zeros(2, 6, dtype=torch.bool), "engine": engine}
    result = run(normalized(SHAPE, given, dtype=torch.float32), **options)
    assert result.output.eq(0).all()
    assert all(gradient.eq(0).all() for gradient in result.gradients.values())


@engines
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(engine: str, dtype: torch.dtype) -> None:
    inputs = normalized(SHAPE, ("key_norm", "unit"), dtype=dtype)
    out = inhibitor_attention(**inputs, engine=engine)
    assert out.dtype == dtype
    assert_agrees(out, inhibitor_attention(**{n: t.double() for n, t in inputs.items()}), tolerance=1e-2)


@engines
def test_dropout(engine: str) -> None:
    """A dropped key still counts, so that the expectation is the whole output."""
    inputs = normalized(SHAPE, ("key_norm", "unit"), dtype=torch.float32)
    results = []
    for name in (engine, "reference"):
        torch.manual_seed(1)
        results.append(inhibitor_attention(**inputs, dropout_p=0.5, engine=name))
    assert_agrees(*results)


@engines
@pytest.mark.parametrize("unit", [1e-45, 1e-39, 1e-20, 3e38, math.inf])
def test_units_at_the_ends_of_float32(engine: str, unit: float) -> None:
    """An infinite unit counts every key alike, a tiny one those that pass whole."""
    inputs = random_inputs(SHAPE, dtype=torch.float32) | {"unit": torch.full((4,), unit)}
    for options in ({"center": "min"}, {"center": "mean"}, masks("all masks", SHAPE)):
        found = run(inputs, **options, engine=engine)
        expected = run({name: t.double() for name, t in inputs.items()}, **options, engine="reference")
        assert_agrees(found.output, expected.output)
        assert all(gradient.isfinite().all() for gradient in found.gradients.values())


@engines
def test_a_unit_of_nothing_is_not_hidden(engine: str) -> None:
    inputs = random_inputs(SHAPE, dtype=torch.float32)
    assert inhibitor_attention(**inputs, unit=math.nan, engine=engine).isnan().all()


@pytest.mark.parametrize("name", ["key_norm", "unit"])
def test_wrong_arguments(name: str) -> None:
    inputs = random_inputs(SHAPE)
    for wrong in (torch.ones(3, dtype=torch.float64), "1", True, torch.ones(4, dtype=torch.int64)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            inhibitor_attention(**inputs, **{name: wrong})


def test_the_module_of_the_scalars_passes_them_on() -> None:
    inputs = normalized(SHAPE, ("key_norm", "unit"), dtype=torch.float32)
    qkv = [inputs[name] for name in ("query", "key", "value")]
    scalars = InhibitorScalars(4)
    given = {name: inputs[name] for name in ("key_norm", "unit")}
    out, scores = scalars(*qkv, need_scores=True, **given)
    arguments = scalars.as_arguments()
    assert torch.equal(out, inhibitor_attention(*qkv, **given, **arguments))
    of_scores = {name: arguments[name] for name in ("gamma", "delta")}
    assert torch.equal(scores, inhibition_scores(*qkv[:2], key_norm=given["key_norm"], **of_scores))


# Within torch


def loss(engine: str, names: Any, **options: Any) -> Any:
    def of(*tensors: Tensor) -> Tensor:
        return inhibitor_attention(**dict(zip(names, tensors, strict=True)), **options, engine=engine).square().sum()

    return of


def true_gradients(given: tuple[str, ...], **options: Any) -> tuple[Tensor, ...]:
    leaves = {name: t.requires_grad_() for name, t in normalized(TINY, given).items()}
    return torch.autograd.grad(loss("reference", leaves, **options)(*leaves.values()), list(leaves.values()))


@engines
@some_given
@pytest.mark.parametrize("kind", ["no mask", "all masks"])
def test_grad(engine: str, given: tuple[str, ...], kind: str) -> None:
    options, tensors = masks(kind, TINY), normalized(TINY, given, dtype=torch.float32)
    every = tuple(range(len(tensors)))
    found = grad(loss(engine, tensors, **options), argnums=every)(*tensors.values())
    assert_agrees(found, true_gradients(given, **options))


@engines
@some_given
def test_second_derivatives(engine: str, given: tuple[str, ...]) -> None:
    def second(engine: str, tensors: Inputs) -> tuple[Tensor, ...]:
        leaves = [t.requires_grad_() for t in tensors.values()]
        first = torch.autograd.grad(loss(engine, tensors)(*leaves), leaves, create_graph=True)
        return torch.autograd.grad(sum((g.sin() * (i + 1)).sum() for i, g in enumerate(first)), leaves)

    expected = second("reference", normalized(TINY, given))
    assert_agrees(second(engine, normalized(TINY, given, dtype=torch.float32)), expected, tolerance=1e-4)


@engines
@some_given
def test_gradients_for_each_sample(engine: str, given: tuple[str, ...]) -> None:
    tensors = normalized(TINY, given, dtype=torch.float32)
    q, k, v, *rest = tensors.values()
    every = tuple(range(len(tensors)))

    def of_one(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> Tensor:
        return loss(engine, tensors)(q[None], k[None], v[None], *rest)

    found = vmap(grad(of_one, argnums=every), in_dims=(0, 0, 0, *[None] * len(rest)))(q, k, v, *rest)
    for i in range(2):
        assert_agrees([g[i] for g in found], grad(of_one, argnums=every)(q[i], k[i], v[i], *rest))


@engines
@pytest.mark.parametrize("name", ["key_norm", "unit"])
def test_vmap_and_hessian_of_a_scalar(engine: str, name: str) -> None:
    tensors = normalized(TINY, ("key_norm", "unit"), dtype=torch.float32)

    def of(scalar: Tensor) -> Tensor:
        given = tensors | {name: scalar}
        return loss(engine, given)(*given.values())

    several = torch.stack([tensors[name], 2 * tensors[name]])
    assert_agrees(vmap(grad(of))(several), torch.stack([grad(of)(s) for s in several]))
    exact = normalized(TINY, ("key_norm", "unit"))

    def exactly(scalar: Tensor) -> Tensor:
        given = exact | {name: scalar}
        return loss("reference", given)(*given.values())

    expected = torch.autograd.functional.hessian(exactly, exact[name])
    assert_agrees(jacrev(jacrev(of))(tensors[name]), expected, tolerance=1e-4)


@forward_engines
@some_given
def test_forward_mode(engine: str, given: tuple[str, ...]) -> None:
    tensors = normalized(TINY, given, dtype=torch.float32)
    tangents = tuple(normalized(TINY, given, seed=5, dtype=torch.float32).values())
    _, found = torch.func.jvp(loss(engine, tensors), tuple(tensors.values()), tangents)
    expected = sum((g * t).sum() for g, t in zip(true_gradients(given), tangents, strict=True))
    assert_agrees(found, expected)


@pytest.mark.parametrize("given", [("unit",), ("key_norm", "unit")], ids="+".join)
def test_compiles(given: tuple[str, ...]) -> None:
    """Outputs and gradients of every scalar, with sizes that change."""
    torch.compiler.reset()  # each case compiles the same functions anew
    engine, names = "auto", list(normalized(TINY, given))
    compiled = torch.compile(loss(engine, names), backend="aot_eager", fullgraph=True, dynamic=True)
    for shape in (TINY, TINY._replace(batch=3, queries=7, keys=9)):
        results = []
        for function in (loss(engine, names), compiled):
            leaves = [t.requires_grad_() for t in normalized(shape, given, dtype=torch.float32).values()]
            results.append(torch.autograd.grad(function(*leaves), leaves))
        assert_agrees(*results)


@some_given
def test_opcheck(given: tuple[str, ...]) -> None:
    """The operator's fake kernels and derivatives."""
    from inhibitor_transformers.attention.checks import make_call
    from inhibitor_transformers.attention.cpu import library

    if library.unavailable():
        pytest.skip(str(library.unavailable()))
    inputs = normalized(TINY, given, dtype=torch.float32)
    fixed = dict.fromkeys(("key_padding_mask", "attn_mask"))
    call = make_call(**inputs, length_reference=64.0, **fixed, is_causal=True, signed=True, center="min")
    tensors = [None if t is None else t.requires_grad_() for t in call.tensors()]
    opcheck(torch.ops.inhibitor.attention, (*tensors, *call.masks(), *call.options(), "cpu"))
