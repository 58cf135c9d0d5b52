"""Engine `cpu` from 8,193 keys on, which it takes in blocks, against the reference in float64: every instruction set.

Without masks of pairs rows do not touch each other, so some of them speak for all.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention.engine_cases import Shape, error, inputs, instruction_set, normalized

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

MOST_AT_ONCE, LEAST_QUERIES = 8192, 2048  # csrc/float/long_calls.h
ISAS = library.load().isas
SHAPES = {
    "least": Shape(1, 1, 1, LEAST_QUERIES, MOST_AT_ONCE + 1, 8, 8),
    "grouped": Shape(1, 2, 1, LEAST_QUERIES + 35, MOST_AT_ONCE + 60, 16, 24),
    "awkward": Shape(1, 1, 1, 2 * LEAST_QUERIES + 1, MOST_AT_ONCE + 513, 7, 5),
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def some_rows(queries: int) -> list[int]:
    """Of the first and last blocks of 32, and between: also beside the 2,048 that each block of keys serves."""
    return sorted(
        {0, 1, 30, 31, 32, 33, *range(101, queries, 97), *range(2046, min(2050, queries)), queries - 2, queries - 1}
    )


def expected_of(tensors: dict[str, Tensor], rows: list[int], **options) -> Tensor:
    double = {name: t.double() for name, t in tensors.items()} | {"query": tensors["query"][:, :, rows].double()}
    return inhibitor_attention(**double, engine="reference", **options)


def assert_agrees(tensors: dict[str, Tensor], tolerance: float, **options) -> None:
    """With the reference in some rows, by every instruction set."""
    rows = some_rows(tensors["query"].shape[2])
    expected = expected_of(tensors, rows, **options)
    for isa in ISAS:
        with instruction_set(isa):
            got = inhibitor_attention(**tensors, engine="cpu", **options)
        assert error(got[:, :, rows], expected) <= tolerance, isa


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize(("center", "tolerance"), [("mean", 3e-6), ("none", 1e-5)])  # few pairs pass without centering
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_agrees_with_reference(shape, center, tolerance, signed):
    assert_agrees(inputs(shape, torch.randn), tolerance, center=center, signed=signed)


@pytest.mark.parametrize("draw", [torch.randn, None], ids=["gaussian", "grid"])
@pytest.mark.parametrize("shape", [SHAPES["grouped"], SHAPES["awkward"]], ids=["grouped", "awkward"])
def test_agrees_with_reference_with_key_norm_and_unit(shape, draw):
    assert_agrees(normalized(shape, "key_norm", "unit", draw=draw), 3e-5)


@pytest.mark.parametrize("extra", [0, 1], ids=["all at once", "in blocks"])
def test_both_sides_of_the_limit_agree(extra):
    assert_agrees(inputs(Shape(1, 1, 1, LEAST_QUERIES, MOST_AT_ONCE + extra, 16, 16), torch.randn), 1e-5)
    assert_agrees(inputs(Shape(1, 1, 1, LEAST_QUERIES - 1 + extra, MOST_AT_ONCE + 1, 16, 16), torch.randn), 1e-5)


@pytest.mark.parametrize("kind", ["least score", "causal", "mask of pairs", "bias"])
def test_what_takes_a_whole_row_of_scores_is_served_all_the_same(kind):
    shape = Shape(1, 2, 1, LEAST_QUERIES, MOST_AT_ONCE + 1, 4, 4)
    tensors, rows = inputs(shape, torch.randn), some_rows(LEAST_QUERIES)
    options, of_rows = {}, {}
    if kind == "least score":
        options = of_rows = {"center": "min"}
    elif kind == "bias":
        bias = torch.randn(1, shape.queries, shape.keys)
        options, of_rows = {"score_bias": bias}, {"score_bias": bias[:, rows].double()}
    else:
        mask = torch.rand(shape.queries, shape.keys) < 0.7
        if kind == "causal":
            mask = torch.ones_like(mask).tril(shape.keys - shape.queries)
        options = {"is_causal": True} if kind == "causal" else {"attn_mask": mask}
        of_rows = {"attn_mask": mask[rows]}
    got = inhibitor_attention(**tensors, engine="cpu", **options)
    assert error(got[:, :, rows], expected_of(tensors, rows, **of_rows)) < 1e-5


def test_most_pairs_inactive():
    tensors = inputs(SHAPES["grouped"], torch.randn)
    tensors["value"] = tensors["value"] / 16
    tensors["value"][:, :, ::3] = 0
    assert_agrees(tensors, 1e-5)


def test_features_of_any_distribution():
    """Equal keys, two values only, an outlier far off, a common offset, a wide range of exponents."""
    tensors = inputs(Shape(1, 1, 1, LEAST_QUERIES, MOST_AT_ONCE + 100, 8, 8), torch.randn)
    key, query = tensors["key"], tensors["query"]
    key[..., 0] = 0.25
    key[..., 1], query[..., 1] = key[..., 1].sign(), query[..., 1].sign()
    key[:, :, 77, 2] = 1e4
    key[..., 3], query[..., 3] = key[..., 3] + 100, query[..., 3] + 100
    key[..., 4], query[..., 4] = key[..., 4].mul(4).exp() * key[..., 5].sign(), query[..., 4].mul(4).exp()
    key[..., 6] = 0.0
    query[..., 7] = 30.0  # above all keys
    tensors["value"] = tensors["value"] * 100  # as the scores are: otherwise nothing passes
    assert_agrees(tensors, 3e-6)


def test_queries_beyond_all_keys():
    tensors = inputs(SHAPES["least"], torch.randn)
    tensors["query"] = tensors["query"].sign() * 1000
    tensors["value"] = tensors["value"] * 100
    assert_agrees(tensors, 1e-4)


def test_padding_is_not_touched_and_short_sequences_are_taken_whole():
    """Row 0 has more valid keys than are taken at once, row 1 has fewer."""
    shape = Shape(2, 2, 1, LEAST_QUERIES, MOST_AT_ONCE + 900, 8, 8)
    tensors = inputs(shape, torch.randn)
    valid = torch.ones(2, shape.keys, dtype=torch.bool)
    valid[0, ::13] = False
    valid[1, 3000:] = False
    assert valid.sum(1)[0] > MOST_AT_ONCE
    assert_agrees(tensors, 3e-6, key_padding_mask=valid)
    dirty = {name: t.clone() for name, t in tensors.items()}
    for name in ("key", "value"):
        dirty[name].masked_fill_(~valid[:, None, :, None], math.nan)
    short = {name: t[1:] if t.dim() > 1 else t for name, t in tensors.items()}
    short |= {name: short[name][:, :, :3000] for name in ("key", "value")}
    for isa in ISAS:
        with instruction_set(isa):
            clean = inhibitor_attention(**tensors, key_padding_mask=valid, engine="cpu")
            assert torch.equal(inhibitor_attention(**dirty, key_padding_mask=valid, engine="cpu"), clean)
            assert torch.equal(inhibitor_attention(**short, engine="cpu"), clean[1:])


@pytest.mark.parametrize(
    ("bad", "center"), [(math.nan, "mean"), (math.nan, "none"), (math.inf, "mean"), (-math.inf, "mean")]
)
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_is_where_the_reference_has_it(name, bad, center):
    tensors = inputs(Shape(1, 1, 1, LEAST_QUERIES, MOST_AT_ONCE + 1, 5, 5), torch.randn)
    tensors[name][0, 0, 33, 3] = bad
    rows = some_rows(LEAST_QUERIES)
    expected = expected_of(tensors, rows, center=center)
    for isa in ISAS:
        with instruction_set(isa):
            got = inhibitor_attention(**tensors, engine="cpu", center=center)[:, :, rows]
        assert torch.equal(got.isnan(), expected.isnan()), isa


def test_a_score_that_is_nan_makes_its_row_nan_whichever_block_of_keys_it_is_in():
    tensors = inputs(SHAPES["least"], torch.randn)
    tensors["key"][0, 0, 33] = 3e38  # at an infinite distance, times 0
    tensors["gamma"] = torch.zeros(1)
    expected = inhibitor_attention(**tensors | {"query": tensors["query"][:, :, :1]}, engine="reference", center="none")
    assert expected.isnan().all()
    for isa in ISAS:
        with instruction_set(isa):
            assert inhibitor_attention(**tensors, engine="cpu", center="none").isnan().all(), isa


def test_result_is_the_same_for_any_number_of_threads():
    tensors = inputs(Shape(1, 2, 1, LEAST_QUERIES + 35, MOST_AT_ONCE + 60, 20, 8), torch.randn)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(inhibitor_attention(**tensors, engine="cpu"))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_strided_inputs():
    base = {name: torch.randn(1, MOST_AT_ONCE + 20, 2, 2 * 8) for name in ("query", "key", "value")}
    views = {name: t.transpose(1, 2)[..., :8] for name, t in base.items()}
    packed = {name: t.contiguous() for name, t in views.items()}
    assert torch.equal(inhibitor_attention(**views, engine="cpu"), inhibitor_attention(**packed, engine="cpu"))


@pytest.mark.parametrize("given", [(), ("key_norm", "unit")], ids=["plain", "normalized"])
def test_gradients_agree_with_reference(given):
    """Of a sum over some rows, which is all that the reference then has to compute; on a grid, where ties are exact."""
    shape = Shape(1, 1, 1, LEAST_QUERIES, MOST_AT_ONCE + 9, 4, 4)
    tensors, rows = normalized(shape, *given, center="none"), some_rows(LEAST_QUERIES)
    grad = torch.zeros(1, 1, LEAST_QUERIES, 4)
    grad[:, :, rows] = torch.randn(1, 1, len(rows), 4)
    leaves = {name: t.clone().requires_grad_() for name, t in tensors.items()}
    out = inhibitor_attention(**leaves, center="none", engine="cpu")
    got = torch.autograd.grad(out, list(leaves.values()), grad)
    leaves = {name: t.double().requires_grad_() for name, t in tensors.items()}
    out = inhibitor_attention(**leaves | {"query": leaves["query"][:, :, rows]}, center="none", engine="reference")
    expected = torch.autograd.grad(out, list(leaves.values()), grad[:, :, rows].double())
    for name, ours, theirs in zip(leaves, got, expected, strict=True):
        assert error(ours, theirs) < 3e-4, name
