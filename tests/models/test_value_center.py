"""Values about their mean over the valid keys."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers import InhibitorScalars, inhibitor_attention
from inhibitor_transformers.models.attention_interface import inhibitor_attention_forward
from inhibitor_transformers.models.value_center import center_values
from tests.models.tiny import tiny_config

B, N, H, D = 2, 5, 4, 3
PADDING = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()


def attention_module() -> Any:
    scalars = InhibitorScalars(H, gamma=0.5, delta=0.3, eta=0.7, length_exponent=0.5)
    return SimpleNamespace(inhibitor=scalars, config=tiny_config(inhibitor_value_center="mean"))


def qkv(kv_heads: int = H) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(B, H, N, D), torch.randn(B, kv_heads, N, D), torch.randn(B, kv_heads, N, D)


def attention_outputs(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return inhibitor_attention_forward(attention_module(), q, k, v, mask)[0].transpose(1, 2)


@pytest.mark.parametrize("kv_heads", [H, 2])
def test_each_text_by_hand(kv_heads: int) -> None:
    q, k, v = qkv(kv_heads)
    found, scalars = attention_outputs(q, k, v, PADDING), attention_module().inhibitor.as_arguments()
    for text, keys in enumerate(PADDING.sum(1)):
        one_k, one_v = (x[text : text + 1, :, :keys].repeat_interleave(H // kv_heads, 1) for x in (k, v))
        mean = one_v.mean(2, keepdim=True)
        expected = mean + inhibitor_attention(q[text : text + 1], one_k, one_v - mean, **scalars, engine="reference")
        torch.testing.assert_close(found[text : text + 1], expected)


@pytest.mark.parametrize("mask", [None, PADDING])
def test_what_is_common_to_all_values_passes_whole(mask: Tensor | None) -> None:
    q, k, v = qkv()
    common = torch.randn(B, H, 1, D)
    torch.testing.assert_close(attention_outputs(q, k, v + common, mask), attention_outputs(q, k, v, mask) + common)


def test_padding_leaves_no_trace() -> None:
    q, k, v = qkv()
    spoiled = v.masked_fill(~PADDING[:, None, :, None], torch.nan)
    assert torch.equal(attention_outputs(q, k, spoiled, PADDING), attention_outputs(q, k, v, PADDING))
    torch.testing.assert_close(
        attention_outputs(q, k, v, PADDING)[1:, :, :3], attention_outputs(*(x[1:, :, :3] for x in (q, k, v)))
    )


def test_a_text_without_keys_is_zero() -> None:
    none = PADDING & torch.tensor([[True], [False]])
    found = attention_outputs(*qkv(), none)
    assert torch.equal(found[1], torch.zeros_like(found[1]))


@pytest.mark.parametrize("mask", [None, PADDING])
def test_gradients_reach_values_through_the_mean(mask: Tensor | None) -> None:
    _, _, v = (x.double() for x in qkv())
    v.requires_grad_()

    def restored(values: Tensor) -> Tensor:
        shrunk = center_values(values, mask, "mean")
        return shrunk.restore(shrunk.values.square())

    assert torch.autograd.gradcheck(restored, v)


def test_a_mask_per_query_is_refused() -> None:
    per_query = torch.ones(B, 1, N, N).bool().tril()
    with pytest.raises(ValueError, match=r"value_center='mean' takes a key padding mask.*\(2, 1, 5, 5\)"):
        attention_outputs(*qkv(), per_query)
