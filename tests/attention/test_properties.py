"""What must hold for any input: equivariance, independence, and that masked keys do not exist."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.reference import CHUNK_ELEMENTS
from tests.attention.cases import (
    SCALARS,
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

OF_KEYS = ("key", "value")
NOT_OF_KEYS = ("query", *SCALARS)


@dataclass(frozen=True)
class Case:
    shape: Shape
    seed: int
    chunk: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> Inputs:
        return random_inputs(self.shape, self.seed)

    def bools(self, *size: int, valid: float = 0.7) -> Tensor:
        return random_bools(self.seed + 1, *size, valid=valid)

    @property
    def padding(self) -> Tensor:
        """(B, Nk), rows without any valid key included."""
        return self.bools(self.shape.batch, self.shape.keys)


@st.composite
def cases(draw: st.DrawFn, **fixed: int) -> Case:
    kv_heads = draw(st.integers(1, 2))
    sizes = {
        "batch": draw(st.integers(1, 3)),
        "heads": kv_heads * draw(st.integers(1, 3)),
        "kv_heads": kv_heads,
        "queries": draw(st.integers(1, 5)),
        "keys": draw(st.integers(1, 6)),
        "features": draw(st.integers(1, 4)),
        "value_features": draw(st.integers(1, 4)),
    }
    return Case(
        shape=Shape(**sizes | fixed),
        seed=draw(st.integers(0, 2**20)),
        chunk=draw(st.sampled_from([1, 30, CHUNK_ELEMENTS])),
        options={
            "signed": draw(st.booleans()),
            "center": draw(st.sampled_from(["mean", "none", "min"])),
            "length_reference": draw(st.sampled_from([0.5, 3, 64])),
        },
    )


def insert_keys(tensor: Tensor, places: Tensor, content: float) -> Tensor:
    """`tensor` (B, Hkv, Nk, F) spread over the positions where `places` is True, `content` in the others."""
    longer = tensor.new_full((*tensor.shape[:2], len(places), tensor.shape[3]), content)
    longer[:, :, places] = tensor
    return longer


def places_of(kind: str, keys: int, extra: int, seed: int) -> Tensor:
    """True where an original key stands, False where padding does."""
    original, padding = torch.ones(keys, dtype=torch.bool), torch.zeros(extra, dtype=torch.bool)
    if kind == "left":
        return torch.cat([padding, original])
    if kind == "right":
        return torch.cat([original, padding])
    order = torch.randperm(keys + extra, generator=torch.Generator().manual_seed(seed))
    return torch.cat([original, padding])[order]


@given(cases(), st.booleans())
def test_order_of_keys_does_not_matter(case: Case, masked: bool) -> None:
    order = torch.randperm(case.shape.keys, generator=torch.Generator().manual_seed(case.seed))
    permuted = case.inputs | {name: case.inputs[name][:, :, order] for name in OF_KEYS}
    masks = {"key_padding_mask": case.padding} if masked else {}
    permuted_masks = {"key_padding_mask": case.padding[:, order]} if masked else {}
    with chunks_of(case.chunk):
        expected = run(case.inputs, **masks, **case.options)
        actual = run(permuted, **permuted_masks, **case.options)
    assert_same_result(actual, expected, *NOT_OF_KEYS)
    for name in OF_KEYS:
        assert_close(actual.gradients[name], expected.gradients[name][:, :, order])


@given(cases())
def test_order_of_queries_does_not_matter(case: Case) -> None:
    order = torch.randperm(case.shape.queries, generator=torch.Generator().manual_seed(case.seed))
    mask = case.bools(case.shape.batch, 1, case.shape.queries, case.shape.keys)
    with chunks_of(case.chunk):
        expected = run(case.inputs, rows=order, attn_mask=mask, **case.options)
        permuted = case.inputs | {"query": case.inputs["query"][:, :, order]}
        actual = run(permuted, attn_mask=mask[:, :, order], **case.options)
    assert_same_result(actual, expected, *OF_KEYS, *SCALARS)
    assert_close(actual.gradients["query"], expected.gradients["query"][:, :, order])


@given(cases(batch=1))
def test_removing_masked_keys_equals_masking_them(case: Case) -> None:
    mask = case.padding[0]
    removed = case.inputs | {name: case.inputs[name][:, :, mask] for name in OF_KEYS}
    with chunks_of(case.chunk):
        expected = run(removed, **case.options)
        actual = run(case.inputs, key_padding_mask=mask[None], **case.options)
    assert_same_result(actual, expected, *NOT_OF_KEYS)
    for name in OF_KEYS:
        assert_close(actual.gradients[name][:, :, mask], expected.gradients[name])
        assert (actual.gradients[name][:, :, ~mask] == 0).all()


@given(
    cases(),
    st.integers(1, 3),
    st.sampled_from(["left", "right", "inside"]),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300]),
    st.sampled_from(["key_padding_mask", "attn_mask", "both"]),
)
def test_padding_changes_nothing(case: Case, extra: int, kind: str, content: float, masked_by: str) -> None:
    places = places_of(kind, case.shape.keys, extra, case.seed)
    padded = case.inputs | {name: insert_keys(case.inputs[name], places, content) for name in OF_KEYS}
    masks = {
        "key_padding_mask": {"key_padding_mask": places.expand(case.shape.batch, -1)},
        "attn_mask": {"attn_mask": places.expand(case.shape.queries, -1)},
        "both": {"key_padding_mask": places.expand(case.shape.batch, -1), "attn_mask": places},
    }[masked_by]
    with chunks_of(case.chunk):
        expected = run(case.inputs, **case.options)
        actual = run(padded, **masks, **case.options)
    assert_same_result(actual, expected, *NOT_OF_KEYS)
    for name in OF_KEYS:
        assert_close(actual.gradients[name][:, :, places], expected.gradients[name])
        assert (actual.gradients[name][:, :, ~places] == 0).all()


@given(
    cases(),
    st.integers(1, 3),
    st.sampled_from(["left", "right", "inside"]),
    st.sampled_from([math.nan, math.inf]),
    st.booleans(),
)
def test_padding_of_self_attention_changes_nothing(
    case: Case, extra: int, kind: str, content: float, is_causal: bool
) -> None:
    """Queries are padded with the keys, so that causal positions move together."""
    length = case.shape.keys
    inputs = random_inputs(case.shape._replace(queries=length), case.seed)
    pairs = case.bools(case.shape.batch, 1, length, length)
    places = places_of(kind, length, extra, case.seed)
    padded = inputs | {name: insert_keys(inputs[name], places, content) for name in OF_KEYS}
    padded["query"] = insert_keys(inputs["query"], places, 0.3)
    padded_pairs = torch.ones(case.shape.batch, 1, len(places), len(places), dtype=torch.bool)
    padded_pairs[:, :, places.outer(places)] = pairs.flatten(2)
    with chunks_of(case.chunk):
        expected = run(inputs, attn_mask=pairs, is_causal=is_causal, **case.options)
        actual = run(
            padded,
            rows=places.nonzero().flatten(),
            attn_mask=padded_pairs,
            key_padding_mask=places.expand(case.shape.batch, -1),
            is_causal=is_causal,
            **case.options,
        )
    assert_same_result(actual, expected, *SCALARS)
    for name in ("query", *OF_KEYS):
        assert_close(actual.gradients[name][:, :, places], expected.gradients[name])
        assert (actual.gradients[name][:, :, ~places] == 0).all()


@given(cases(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_key_is_invisible_to_the_queries_that_mask_it(case: Case, content: float) -> None:
    """One key holds NaN and is valid for the last query only: the other rows, and their gradients, stay."""
    shape = case.shape._replace(queries=case.shape.queries + 1)
    inputs = random_inputs(shape, case.seed)
    place = case.seed % shape.keys
    mask = torch.ones(shape.queries, shape.keys, dtype=torch.bool)
    mask[:-1, place] = False
    spoiled = inputs | {name: inputs[name].clone() for name in OF_KEYS}
    for name in OF_KEYS:
        spoiled[name][:, :, place] = content
    with chunks_of(case.chunk):
        clean = inhibitor_attention(**inputs, attn_mask=mask, **case.options)
        output = inhibitor_attention(**spoiled, attn_mask=mask, **case.options)
        of_clean_rows = run(spoiled | {"query": spoiled["query"][:, :, :-1]}, attn_mask=mask[:-1], **case.options)
    assert torch.equal(output[:, :, :-1], clean[:, :, :-1])
    assert all(gradient.isfinite().all() for gradient in of_clean_rows.gradients.values())


@given(cases(), st.sampled_from([1.0, math.nan, math.inf]))
def test_query_without_keys_gives_zero_and_zero_gradients(case: Case, content: float) -> None:
    shape = case.shape
    mask = case.bools(shape.batch, shape.heads, shape.queries, shape.keys)
    empty = case.seed % shape.queries
    mask[:, :, empty] = False
    result = run(case.inputs, attn_mask=mask, **case.options)
    assert (result.output[:, :, empty] == 0).all()
    assert (result.gradients["query"][:, :, empty] == 0).all()
    alone = case.inputs | {name: case.inputs[name] * content for name in OF_KEYS}
    nothing = run(alone, attn_mask=torch.zeros_like(mask), **case.options)
    assert (nothing.output == 0).all()
    assert all((gradient == 0).all() for gradient in nothing.gradients.values())


@given(cases(), st.booleans())
def test_batch_rows_are_independent(case: Case, is_causal: bool) -> None:
    options = case.options | {"is_causal": is_causal}
    with chunks_of(case.chunk):
        together = run(case.inputs, key_padding_mask=case.padding, **options)
        weight = weights_for(together.output)
        for row in range(case.shape.batch):
            of_row = slice(row, row + 1)
            inputs = case.inputs | {name: case.inputs[name][of_row] for name in ("query", *OF_KEYS)}
            alone = run(inputs, weight=weight[of_row], key_padding_mask=case.padding[of_row], **options)
            assert_close(alone.output, together.output[of_row])
            for name in ("query", *OF_KEYS):
                assert_close(alone.gradients[name], together.gradients[name][of_row])


@given(cases())
def test_heads_are_independent(case: Case) -> None:
    inputs = random_inputs(case.shape._replace(kv_heads=case.shape.heads), case.seed)
    mask = case.bools(1, case.shape.heads, 1, case.shape.keys)
    with chunks_of(case.chunk):
        together = run(inputs, attn_mask=mask, **case.options)
        weight = weights_for(together.output)
        for head in range(case.shape.heads):
            of_head = slice(head, head + 1)
            one = {n: t[of_head] if n in SCALARS else t[:, of_head] for n, t in inputs.items()}
            alone = run(one, weight=weight[:, of_head], attn_mask=mask[:, of_head], **case.options)
            assert_close(alone.output, together.output[:, of_head])
            for name, gradient in alone.gradients.items():
                of_all = together.gradients[name]
                assert_close(gradient, of_all[of_head] if name in SCALARS else of_all[:, of_head])


@given(cases(), st.floats(-3, 3))
def test_moving_queries_and_keys_together_changes_nothing(case: Case, by: float) -> None:
    shift = by * torch.arange(1.0, case.shape.features + 1, dtype=torch.float64)
    moved = case.inputs | {name: case.inputs[name] + shift for name in ("query", "key")}
    with chunks_of(case.chunk):
        actual, expected = (run(i, key_padding_mask=case.padding, **case.options) for i in (moved, case.inputs))
    assert_same_result(actual, expected)


@given(cases(), st.floats(0.01, 100))
def test_output_scales_with_its_inputs(case: Case, by: float) -> None:
    scaled = {n: t * by if n in ("query", *OF_KEYS, "delta") else t for n, t in case.inputs.items()}
    with chunks_of(case.chunk):
        actual = inhibitor_attention(**scaled, key_padding_mask=case.padding, **case.options)
        expected = inhibitor_attention(**case.inputs, key_padding_mask=case.padding, **case.options)
    assert_close(actual / by, expected)


@given(cases())
def test_negated_values_negate_the_signed_output(case: Case) -> None:
    options = case.options | {"signed": True}
    negated = case.inputs | {"value": -case.inputs["value"]}
    assert torch.equal(inhibitor_attention(**negated, **options), -inhibitor_attention(**case.inputs, **options))


@given(cases())
def test_signed_is_the_difference_of_two_unsigned(case: Case) -> None:
    options = {name: option for name, option in case.options.items() if name != "signed"}
    negated = case.inputs | {"value": -case.inputs["value"]}
    positive = inhibitor_attention(**case.inputs, signed=False, **options)
    negative = inhibitor_attention(**negated, signed=False, **options)
    assert_close(inhibitor_attention(**case.inputs, signed=True, **options), positive - negative)


@given(cases(), st.booleans())
def test_grouped_heads_equal_repeated_heads(case: Case, is_causal: bool) -> None:
    groups = case.shape.heads // case.shape.kv_heads
    repeated = case.inputs | {name: case.inputs[name].repeat_interleave(groups, dim=1) for name in OF_KEYS}
    options = case.options | {"is_causal": is_causal, "key_padding_mask": case.padding}
    with chunks_of(case.chunk):
        actual, expected = run(case.inputs, **options), run(repeated, **options)
    assert_same_result(actual, expected, *NOT_OF_KEYS)
    for name in OF_KEYS:
        assert_close(actual.gradients[name], expected.gradients[name].unflatten(1, (-1, groups)).sum(2))


@given(cases(), st.booleans())
def test_causal_queries_are_the_last_positions(case: Case, masked: bool) -> None:
    """With fewer queries than keys, as in cached decoding: the last rows of the full causal call."""
    length = max(case.shape.keys, case.shape.queries)
    full = random_inputs(case.shape._replace(queries=length, keys=length), case.seed)
    last = full | {"query": full["query"][:, :, length - case.shape.queries :]}
    masks = {"key_padding_mask": case.bools(case.shape.batch, length)} if masked else {}
    with chunks_of(case.chunk):
        expected = inhibitor_attention(**full, is_causal=True, **masks, **case.options)
        actual = inhibitor_attention(**last, is_causal=True, **masks, **case.options)
    assert_close(actual, expected[:, :, length - case.shape.queries :])


@given(cases(), st.integers(1, 3))
def test_causal_queries_before_the_first_key_see_nothing(case: Case, early: int) -> None:
    inputs = random_inputs(case.shape._replace(queries=case.shape.keys + early), case.seed)
    with chunks_of(case.chunk):
        output = inhibitor_attention(**inputs, is_causal=True, **case.options)
        square = inhibitor_attention(
            **inputs | {"query": inputs["query"][:, :, early:]}, is_causal=True, **case.options
        )
    assert (output[:, :, :early] == 0).all()
    assert_close(output[:, :, early:], square)


@given(cases(), st.booleans())
def test_padding_mask_equals_the_same_pair_mask(case: Case, is_causal: bool) -> None:
    options = case.options | {"is_causal": is_causal}
    with chunks_of(case.chunk):
        as_padding = run(case.inputs, key_padding_mask=case.padding, **options)
        as_pairs = run(case.inputs, attn_mask=case.padding[:, None, None, :], **options)
    assert_same_result(as_pairs, as_padding)


@given(cases())
def test_strides_do_not_matter(case: Case) -> None:
    """Transposed, every second element, reversed storage order, and broadcast without a copy."""
    inputs = case.inputs
    strided = dict(inputs)
    strided["query"] = inputs["query"].transpose(1, 2).contiguous().transpose(1, 2)
    strided["key"] = inputs["key"].repeat_interleave(2, dim=2)[:, :, ::2]
    strided["value"] = inputs["value"].transpose(2, 3).contiguous().transpose(2, 3)
    strided["gamma"] = inputs["gamma"].repeat_interleave(3)[::3]
    mask = case.padding.repeat_interleave(2, dim=1)[:, ::2]
    with chunks_of(case.chunk):
        expected = inhibitor_attention(**inputs, key_padding_mask=case.padding, **case.options)
        actual = inhibitor_attention(**strided, key_padding_mask=mask, **case.options)
        shared_key = inputs["key"][:1].expand(case.shape.batch, -1, -1, -1)
        of_view, of_copy = (
            inhibitor_attention(**inputs | {"key": k}, **case.options) for k in (shared_key, shared_key.contiguous())
        )
    assert torch.equal(actual, expected)
    assert torch.equal(of_view, of_copy)


@given(cases())
def test_inputs_are_left_as_they_were(case: Case) -> None:
    inputs, mask = case.inputs, case.padding
    with chunks_of(case.chunk):
        inhibitor_attention(**inputs, key_padding_mask=mask, dropout_p=0.5, **case.options)
    assert torch.equal(mask, case.padding)
    assert all(torch.equal(inputs[name], case.inputs[name]) for name in inputs)


@pytest.mark.parametrize("chunk", [1, CHUNK_ELEMENTS], ids=["row by row", "one chunk"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        {"batch": 0},
        {"queries": 0},
        {"keys": 0},
        {"heads": 0, "kv_heads": 0},
        {"value_features": 0},
        {"batch": 0, "keys": 0},
    ],
    ids=str,
)
def test_sizes_of_zero(sizes: dict[str, int], masked: bool, is_causal: bool, chunk: int) -> None:
    shape = Shape(**sizes)
    padding = torch.ones(shape.batch, shape.keys, dtype=torch.bool)
    pairs = torch.ones(shape.batch, 1, shape.queries, shape.keys, dtype=torch.bool)
    masks = {"key_padding_mask": padding, "attn_mask": pairs} if masked else {}
    with chunks_of(chunk):
        result = run(random_inputs(shape), is_causal=is_causal, **masks)
    assert result.output.shape == (shape.batch, shape.heads, shape.queries, shape.value_features)
    assert (result.output == 0).all()
    assert all((gradient == 0).all() for gradient in result.gradients.values())
