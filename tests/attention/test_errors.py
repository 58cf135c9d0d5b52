"""Every wrong argument is refused with what came and what would be right."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from inhibitor_transformers.attention import inhibition_scores, inhibitor_attention

B, H, HKV, NQ, NK, D, DV = 2, 4, 2, 3, 5, 6, 7


def good() -> dict[str, Any]:
    return {
        "query": torch.zeros(B, H, NQ, D),
        "key": torch.zeros(B, HKV, NK, D),
        "value": torch.zeros(B, HKV, NK, DV),
    }


WRONG: list[tuple[str, dict[str, Any], str]] = [
    # tensors
    ("query is a list", {"query": [1.0]}, "query must be a torch.Tensor, got list"),
    ("key is None", {"key": None}, "key must be a torch.Tensor, got NoneType"),
    (
        "query of rank 3",
        {"query": torch.zeros(B, NQ, D)},
        "query must have 4 dimensions (batch, heads, length, features), got (2, 3, 6)",
    ),
    (
        "value of rank 5",
        {"value": torch.zeros(1, B, HKV, NK, DV)},
        "value must have 4 dimensions (batch, heads, length, features), got (1, 2, 2, 5, 7)",
    ),
    (
        "key of integers",
        {"key": torch.zeros(B, HKV, NK, D, dtype=torch.long)},
        "key must be a floating tensor, got torch.int64",
    ),
    (
        "complex query",
        {"query": torch.zeros(B, H, NQ, D, dtype=torch.complex64)},
        "query must be a floating tensor, got torch.complex64",
    ),
    (
        "mixed dtypes",
        {"query": torch.zeros(B, H, NQ, D, dtype=torch.bfloat16)},
        "query, key and value must share one dtype, got torch.bfloat16, torch.float32, torch.float32",
    ),
    (
        "mixed devices",
        {"value": torch.zeros(B, HKV, NK, DV, device="meta")},
        "query, key and value must be on one device, got cpu, cpu, meta",
    ),
    (
        "batch sizes",
        {"key": torch.zeros(3, HKV, NK, D)},
        "batch sizes differ: query (2, 4, 3, 6), key (3, 2, 5, 6), value (2, 2, 5, 7)",
    ),
    (
        "key and value heads",
        {"value": torch.zeros(B, H, NK, DV)},
        "key and value must have the same number of heads: query (2, 4, 3, 6), key (2, 2, 5, 6), value (2, 4, 5, 7)",
    ),
    (
        "key and value lengths",
        {"value": torch.zeros(B, HKV, NK + 1, DV)},
        "key and value must have the same length: query (2, 4, 3, 6), key (2, 2, 5, 6), value (2, 2, 6, 7)",
    ),
    (
        "query and key features",
        {"query": torch.zeros(B, H, NQ, D + 1)},
        "query and key must have the same number of features: query (2, 4, 3, 7), key (2, 2, 5, 6), value (2, 2, 5, 7)",
    ),
    (
        "no features",
        {"query": torch.zeros(B, H, NQ, 0), "key": torch.zeros(B, HKV, NK, 0)},
        "query and key need at least one feature: query (2, 4, 3, 0), key (2, 2, 5, 0), value (2, 2, 5, 7)",
    ),
    (
        "heads not a multiple",
        {"query": torch.zeros(B, 3, NQ, D)},
        "query heads (3) must be a multiple of key/value heads (2)",
    ),
    (
        "no key heads",
        {"key": torch.zeros(B, 0, NK, D), "value": torch.zeros(B, 0, NK, DV)},
        "query heads (4) must be a multiple of key/value heads (0)",
    ),
    # scalars
    (
        "gamma per key head",
        {"gamma": torch.ones(HKV)},
        "gamma must be a number or one per head, shape (4,), got (2,)",
    ),
    (
        "eta of rank 2",
        {"eta": torch.ones(H, 1)},
        "eta must be a number or one per head, shape (4,), got (4, 1)",
    ),
    (
        "delta of integers",
        {"delta": torch.ones(H, dtype=torch.long)},
        "delta must be a floating tensor, got torch.int64",
    ),
    (
        "length_exponent elsewhere",
        {"length_exponent": torch.zeros(H, device="meta")},
        "length_exponent is on meta, the query on cpu",
    ),
    ("gamma is text", {"gamma": "1"}, "gamma must be a number or a tensor of shape (4,), got str"),
    ("delta is None", {"delta": None}, "delta must be a number or a tensor of shape (4,), got NoneType"),
    ("eta is a bool", {"eta": True}, "eta must be a number or a tensor of shape (4,), got bool"),
    *(
        (
            f"length_reference {wrong!r}",
            {"length_reference": wrong},
            "length_reference must be a positive number of keys, got " + repr(wrong),
        )
        for wrong in (0, -1.0, math.inf, math.nan, "64", None)
    ),
    ("center", {"center": "median"}, "center must be one of ['mean', 'none', 'min'], got 'median'"),
    ("center is None", {"center": None}, "center must be one of ['mean', 'none', 'min'], got None"),
    # masks
    (
        "additive padding mask",
        {"key_padding_mask": torch.zeros(B, NK)},
        "key_padding_mask must be a bool tensor with True = valid, got torch.float32; "
        "additive masks cannot be added to distances",
    ),
    (
        "padding mask of integers",
        {"key_padding_mask": torch.ones(B, NK, dtype=torch.long)},
        "key_padding_mask must be a bool tensor with True = valid, got torch.int64",
    ),
    (
        "padding mask is a list",
        {"key_padding_mask": [[True] * NK] * B},
        "key_padding_mask must be a bool tensor with True = valid, got list",
    ),
    (
        "padding mask of queries",
        {"key_padding_mask": torch.ones(B, NQ, dtype=torch.bool)},
        "key_padding_mask must have shape (batch, keys) = (2, 5), got (2, 3)",
    ),
    (
        "padding mask of rank 4",
        {"key_padding_mask": torch.ones(B, 1, 1, NK, dtype=torch.bool)},
        "key_padding_mask must have shape (batch, keys) = (2, 5), got (2, 1, 1, 5)",
    ),
    (
        "padding mask elsewhere",
        {"key_padding_mask": torch.ones(B, NK, dtype=torch.bool, device="meta")},
        "key_padding_mask is on meta, the query on cpu",
    ),
    (
        "additive pair mask",
        {"attn_mask": torch.zeros(NQ, NK)},
        "attn_mask must be a bool tensor with True = valid, got torch.float32; "
        "additive masks cannot be added to distances",
    ),
    (
        "pair mask of another shape",
        {"attn_mask": torch.ones(NK, NQ, dtype=torch.bool)},
        "attn_mask must be broadcastable to (batch, heads, queries, keys) = (2, 4, 3, 5), got (5, 3)",
    ),
    (
        "pair mask of rank 5",
        {"attn_mask": torch.ones(1, 1, 1, NQ, NK, dtype=torch.bool)},
        "attn_mask must be broadcastable to (batch, heads, queries, keys) = (2, 4, 3, 5), got (1, 1, 1, 3, 5)",
    ),
    (
        "pair mask elsewhere",
        {"attn_mask": torch.ones(NQ, NK, dtype=torch.bool, device="meta")},
        "attn_mask is on meta, the query on cpu",
    ),
    # bias
    ("bias is a list", {"score_bias": [0.0]}, "score_bias must be a torch.Tensor, got list"),
    *(
        (
            f"bias of shape {shape}",
            {"score_bias": torch.zeros(shape)},
            f"score_bias must have shape (heads or 1, queries, keys) = (4 or 1, 3, 5), got {shape}",
        )
        for shape in ((NQ, NK), (B, H, NQ, NK), (HKV, NQ, NK), (0, NQ, NK), (H, NK, NQ), (H, 1, NK), (H, NQ, 1))
    ),
    (
        "bias of integers",
        {"score_bias": torch.zeros(H, NQ, NK, dtype=torch.long)},
        "score_bias must be torch.float32, got torch.int64",
    ),
    (
        "bool bias",
        {"score_bias": torch.zeros(H, NQ, NK, dtype=torch.bool)},
        "score_bias must be torch.float32, got torch.bool",
    ),
    (
        "bias in double precision",
        {"score_bias": torch.zeros(1, NQ, NK, dtype=torch.float64)},
        "score_bias must be torch.float32, got torch.float64",
    ),
    (
        "sparse bias",
        {"score_bias": torch.zeros(1, NQ, NK).to_sparse()},
        "score_bias must be a dense tensor, got torch.sparse_coo",
    ),
    (
        "bias elsewhere",
        {"score_bias": torch.zeros(1, NQ, NK, device="meta")},
        "score_bias is on meta, the query on cpu",
    ),
    # dropout and engine
    *(
        (f"dropout_p {wrong!r}", {"dropout_p": wrong}, f"dropout_p must be in [0, 1), got {wrong!r}")
        for wrong in (-0.1, 1.0, 1, 2.5, math.nan, "0.1", None)
    ),
    ("engine", {"engine": "cuda"}, "unknown engine 'cuda'; known: ['auto', "),
]
NOT_OF_SCORES = {"value", "eta", "length_exponent", "length_reference", "dropout_p", "engine"}
WRONG_SCORES = [case for case in WRONG if not case[1].keys() & NOT_OF_SCORES]


@pytest.mark.parametrize(("wrong", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_argument_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        inhibitor_attention(**good() | wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"), [case[1:] for case in WRONG_SCORES], ids=[case[0] for case in WRONG_SCORES]
)
def test_scores_refuse_the_same(wrong: dict[str, Any], message: str) -> None:
    arguments = {name: tensor for name, tensor in good().items() if name != "value"}
    without_shapes = message.split(": ")[0]
    with pytest.raises(ValueError, match=re.escape(without_shapes)):
        inhibition_scores(**arguments | wrong)


def test_options_are_named_only() -> None:
    with pytest.raises(TypeError):
        inhibitor_attention(*good().values(), 1.0)


def test_the_good_call_is_served() -> None:
    assert inhibitor_attention(**good()).shape == (B, H, NQ, DV)


def test_a_scalar_tensor_without_dimensions_may_be_on_another_device() -> None:
    output = inhibitor_attention(**{n: t.to("meta") for n, t in good().items()}, gamma=torch.tensor(1.0))
    assert output.shape == (B, H, NQ, DV)
    assert output.device.type == "meta"
