"""The reference engine against loops over numbers."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import available_engines, inhibition_scores, inhibitor_attention
from inhibitor_transformers.attention.reference import CHUNK_ELEMENTS, _chunk_sizes
from tests.attention.brute_force import brute_force, brute_force_scores
from tests.attention.cases import MASKS, Inputs, Shape, assert_close, chunks_of, masks, random_bools, random_inputs

SHAPES = [
    Shape(batch=1, heads=1, kv_heads=1, queries=1, keys=1, features=1, value_features=1),
    Shape(batch=2, heads=4, kv_heads=2, queries=3, keys=3, features=3, value_features=5),
    Shape(batch=3, heads=3, kv_heads=1, queries=1, keys=65, features=2, value_features=3),
    Shape(batch=1, heads=2, kv_heads=1, queries=111, keys=1, features=3, value_features=2),
    Shape(batch=1, heads=2, kv_heads=2, queries=63, keys=65, features=3, value_features=1),
    Shape(batch=1, heads=2, kv_heads=1, queries=65, keys=63, features=1, value_features=2),
    Shape(batch=1, heads=1, kv_heads=1, queries=111, keys=111, features=2, value_features=2),
    Shape(batch=2, heads=2, kv_heads=1, queries=3, keys=5, features=111, value_features=63),
]


@cache
def expected(shape: Shape, kind: str, signed: bool, center: str) -> tuple[Inputs, Tensor]:
    inputs = random_inputs(shape)
    options = masks(kind, shape, heads=shape.heads) | {"signed": signed, "center": center}
    return inputs, brute_force(**inputs, length_reference=7, **options)


@pytest.mark.parametrize("chunk", [1, 300, CHUNK_ELEMENTS], ids=["row by row", "small chunks", "one chunk"])
@pytest.mark.parametrize("center", ["mean", "none", "min"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_matches_brute_force(shape: Shape, kind: str, signed: bool, center: str, chunk: int) -> None:
    inputs, output = expected(shape, kind, signed, center)
    options = masks(kind, shape, heads=shape.heads) | {"signed": signed, "center": center}
    with chunks_of(chunk):
        actual = inhibitor_attention(**inputs, length_reference=7, engine="reference", **options)
    assert actual.dtype == torch.float64
    assert_close(actual, output)


@pytest.mark.parametrize("chunk", [1, CHUNK_ELEMENTS], ids=["row by row", "one chunk"])
@pytest.mark.parametrize("center", ["mean", "none", "min"])
@pytest.mark.parametrize("kind", MASKS)
def test_scores_match_brute_force(kind: str, center: str, chunk: int) -> None:
    shape = Shape()
    inputs = random_inputs(shape)
    arguments = {name: inputs[name] for name in ("query", "key", "gamma", "delta")}
    options = masks(kind, shape, heads=shape.heads) | {"center": center}
    with chunks_of(chunk):
        actual = inhibition_scores(**arguments, **options)
    assert_close(actual, brute_force_scores(**arguments, **options))


def test_scores_without_scalars_are_those_of_gamma_one_and_delta_zero() -> None:
    inputs = random_inputs(Shape())
    qk = {name: inputs[name] for name in ("query", "key")}
    ones = torch.ones(Shape().heads, dtype=torch.float64)
    assert_close(inhibition_scores(**qk), brute_force_scores(**qk, gamma=ones, delta=0 * ones))


def test_scores_are_infinite_exactly_where_a_key_is_not_valid() -> None:
    shape = Shape()
    inputs, mask = random_inputs(shape), random_bools(4, shape.batch, shape.heads, shape.queries, shape.keys)
    z = inhibition_scores(inputs["query"], inputs["key"], attn_mask=mask)
    assert torch.equal(torch.isposinf(z), ~mask)
    assert z.min() >= 0


@pytest.mark.parametrize(
    "size", [(), (6,), (5, 6), (1, 6), (5, 1), (4, 1, 1), (2, 1, 1, 6), (2, 1, 5, 6), (1, 4, 5, 1)]
)
def test_attn_mask_broadcasts(size: tuple[int, ...]) -> None:
    inputs, mask = random_inputs(Shape()), random_bools(3, *size)
    assert_close(inhibitor_attention(**inputs, attn_mask=mask), brute_force(**inputs, attn_mask=mask))


@pytest.mark.parametrize("name", ["gamma", "eta", "delta", "length_exponent"])
def test_a_number_is_the_same_for_every_head(name: str) -> None:
    inputs = random_inputs(Shape())
    outputs = [inhibitor_attention(**inputs | {name: s}) for s in (0.7, torch.tensor(0.7), torch.full((4,), 0.7))]
    assert_close(outputs[0], brute_force(**inputs | {name: 0.7}))
    assert torch.equal(outputs[1], outputs[2])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-6, atol=1e-6)  # tensors came in float32


def test_defaults_are_those_of_the_formula() -> None:
    inputs = {name: random_inputs(Shape())[name] for name in ("query", "key", "value")}
    assert_close(inhibitor_attention(**inputs), brute_force(**inputs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("given", [torch.float64, torch.bfloat16])
def test_scalars_of_other_dtypes_are_read_in_that_of_the_arithmetic(dtype: torch.dtype, given: torch.dtype) -> None:
    """Kernels read their memory."""
    inputs = random_inputs(Shape(), dtype=dtype)
    scalars = {name: inputs.pop(name).to(given) for name in ("gamma", "eta", "delta", "length_exponent")}
    computed = {name: s.to(torch.float64 if dtype == torch.float64 else torch.float32) for name, s in scalars.items()}
    for engine in ["reference"] if dtype == torch.float64 else available_engines():
        expected = inhibitor_attention(**inputs, **computed, engine=engine)
        assert torch.equal(inhibitor_attention(**inputs, **scalars, engine=engine), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    inputs = random_inputs(Shape(queries=65, keys=63, features=32, value_features=32), dtype=dtype)
    mask = random_bools(5, 2, 63)
    output = inhibitor_attention(**inputs, key_padding_mask=mask, engine="reference")
    in_float32 = inhibitor_attention(
        **{n: t.float() for n, t in inputs.items()}, key_padding_mask=mask, engine="reference"
    )
    assert output.dtype == dtype
    assert torch.equal(output, in_float32.to(dtype))
    assert inhibition_scores(inputs["query"], inputs["key"]).dtype == dtype


def test_float32_is_accurate() -> None:
    inputs = random_inputs(Shape(batch=1, queries=65, keys=111, features=32, value_features=16))
    inputs["length_exponent"] = inputs["length_exponent"].abs()
    exact = inhibitor_attention(**inputs)
    single = inhibitor_attention(**{n: t.float() for n, t in inputs.items()}, engine="reference")
    assert (single - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_large_values_lose_no_relative_accuracy() -> None:
    """Everything is homogeneous: inputs and δ times c give the output times c; 2²⁰ is exact in floats."""
    inputs = random_inputs(Shape(), dtype=torch.float32)
    scaled = {n: t * 2.0**20 if n in ("query", "key", "value", "delta") else t for n, t in inputs.items()}
    outputs = [inhibitor_attention(**i, engine="reference") for i in (scaled, inputs)]
    assert torch.equal(outputs[0], outputs[1] * 2.0**20)


def test_calls_are_reproducible_to_the_bit() -> None:
    inputs = random_inputs(Shape(queries=63, keys=65), dtype=torch.float32)
    with chunks_of(1000):
        outputs = [inhibitor_attention(**inputs, engine="reference") for _ in range(2)]
    assert torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("limit", [1, 60, 500, 3000, 1 << 20])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_chunks_stay_below_the_limit(shape: Shape, limit: int) -> None:
    inputs = random_inputs(shape._replace(kv_heads=shape.heads))
    with chunks_of(limit):
        batch, heads, rows = _chunk_sizes(inputs["query"], inputs["key"], inputs["value"])
    one_row = shape.keys * max(shape.features, shape.value_features)
    assert batch * heads * rows * one_row <= max(limit, one_row)
    assert 1 <= batch <= shape.batch
    assert 1 <= heads <= shape.heads
    assert 1 <= rows <= shape.queries


@pytest.mark.gpu
@pytest.mark.parametrize("kind", MASKS)
def test_on_the_gpu(kind: str) -> None:
    shape = Shape(queries=65, keys=63)
    inputs, options = random_inputs(shape), masks(kind, shape, heads=shape.heads)
    on_gpu = {n: t.cuda() for n, t in inputs.items()}
    options_on_gpu = {n: m.cuda() if isinstance(m, Tensor) else m for n, m in options.items()}
    with chunks_of(5000):
        output = inhibitor_attention(**on_gpu, **options_on_gpu, engine="reference")
    assert output.device.type == "cuda"
    assert_close(output.cpu(), inhibitor_attention(**inputs, **options))
