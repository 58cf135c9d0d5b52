"""The attention function and the mask function that transformers calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    create_bidirectional_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
    sliding_window_bidirectional_mask_function,
)

from inhibitor_transformers import InhibitorScalars, inhibition_scores, inhibitor_attention
from inhibitor_transformers.models.interface import (
    inhibitor_attention_forward,
    inhibitor_mask,
    require_inhibitor,
)
from tests.models.tiny import tiny_config

B, N, H, D = 2, 5, 4, 3
PADDING = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()


def attention_module(**fields: Any) -> Any:
    scalars = InhibitorScalars(H, length_reference=3.0)
    with torch.no_grad():
        for parameter in scalars.parameters():
            parameter += torch.rand(H)
    return SimpleNamespace(inhibitor=scalars, config=tiny_config(**fields))


def qkv(kv_heads: int = H) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(B, H, N, D), torch.randn(B, kv_heads, N, D), torch.randn(B, kv_heads, N, D)


def masks(mask: Tensor | None) -> dict[str, Tensor]:
    return {} if mask is None else {"key_padding_mask" if mask.dim() == 2 else "attn_mask": mask}


@pytest.mark.parametrize("fields", [{}, {"inhibitor_signed": False}, {"inhibitor_center": "none"}])
@pytest.mark.parametrize("mask", [None, PADDING, PADDING[:, None, None, :] & torch.ones(N, N).bool().tril()])
@pytest.mark.parametrize("kv_heads", [H, 2])
def test_attention_is_the_public_operation(fields: dict[str, Any], mask: Tensor | None, kv_heads: int) -> None:
    module, (q, k, v) = attention_module(**fields), qkv(kv_heads)
    context, z = inhibitor_attention_forward(module, q, k, v, mask, scaling=D**-0.5)
    options = {"signed": module.config.inhibitor_signed, "center": module.config.inhibitor_center}
    scalars = module.inhibitor.as_arguments()
    assert scalars["length_reference"] == 3.0
    assert z is None
    assert torch.equal(context.transpose(1, 2), inhibitor_attention(q, k, v, **scalars, **options, **masks(mask)))
    _, z = inhibitor_attention_forward(module, q, k, v, mask, output_attentions=True)
    chosen = {name: scalars[name] for name in ("gamma", "delta")}
    assert z is not None
    assert torch.equal(z, inhibition_scores(q, k, **chosen, center=options["center"], **masks(mask)))


def test_dropout_is_passed_on() -> None:
    module, (q, k, v) = attention_module(), qkv()
    contexts = [inhibitor_attention_forward(module, q, k, v, None, dropout=p)[0] for p in (0.0, 0.0, 0.5)]
    assert torch.equal(contexts[0], contexts[1])
    assert not torch.equal(contexts[0], contexts[2])


def test_a_module_without_scalars_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SimpleNamespace has no inhibitor scalars.*from_teacher"):
        inhibitor_attention_forward(SimpleNamespace(config=tiny_config()), *qkv(), None)


def test_both_are_registered() -> None:
    assert AttentionInterface()["inhibitor"] is inhibitor_attention_forward
    assert AttentionMaskInterface()["inhibitor"] is inhibitor_mask


def test_padding_alone_stays_two_dimensional() -> None:
    mask = inhibitor_mask(B, N, N, attention_mask=PADDING.long())
    assert mask is not None
    assert torch.equal(mask, PADDING)
    assert mask.dtype == torch.bool


def test_nothing_masked_is_no_mask() -> None:
    assert inhibitor_mask(B, N, N) is None
    assert inhibitor_mask(B, N, N, attention_mask=torch.ones(B, N)) is None


def test_a_mask_of_another_length_is_kept_for_the_operation_to_refuse() -> None:
    mask = inhibitor_mask(B, N, N + 2, attention_mask=torch.ones(B, N + 2))
    assert mask is not None
    assert mask.shape == (B, N + 2)


@pytest.mark.parametrize("length", [N - 1, N + 1])
def test_a_mask_of_another_length_than_said_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"attention_mask has {length} keys, the layer has {N}"):
        inhibitor_mask(B, N, N, attention_mask=torch.ones(B, length))


@pytest.mark.parametrize("shape", [(N,), (B, N, N), (B, 1, N, N)])
@pytest.mark.parametrize("function", [bidirectional_mask_function, causal_mask_function])
def test_other_ranks_are_refused(shape: tuple[int, ...], function: Any) -> None:
    with pytest.raises(ValueError, match=r"attention_mask must be \(batch, keys\)"):
        inhibitor_mask(B, N, N, mask_function=function, attention_mask=torch.ones(shape))


def distance(queries: int, keys: int) -> Tensor:
    """Query position minus key position, (queries, keys)."""
    return torch.arange(queries)[:, None] - torch.arange(keys)[None, :]


@pytest.mark.parametrize("padding", [None, PADDING])
@pytest.mark.parametrize(
    ("function", "pairs"),
    [
        (causal_mask_function, distance(N, N) >= 0),
        (sliding_window_bidirectional_mask_function(1), distance(N, N).abs() <= 1),
    ],
    ids=["causal", "sliding window"],
)
def test_other_patterns_are_four_dimensional(padding: Tensor | None, function: Any, pairs: Tensor) -> None:
    mask = inhibitor_mask(B, N, N, mask_function=function, attention_mask=padding, device=torch.device("cpu"))
    expected = pairs.expand(B, 1, N, N) & (True if padding is None else padding[:, None, None, :])
    assert mask is not None
    assert mask.dtype == torch.bool
    assert torch.equal(mask.expand(B, 1, N, N), expected)


def test_causal_queries_after_a_cache() -> None:
    mask = inhibitor_mask(1, 2, N, q_offset=3, mask_function=causal_mask_function, device=torch.device("cpu"))
    assert mask is not None
    assert torch.equal(mask[0, 0], torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool())


@pytest.mark.parametrize("padding", [None, PADDING.long(), torch.ones(B, N).long()])
def test_through_the_makers_of_transformers(padding: Tensor | None) -> None:
    config = tiny_config(attn_implementation="inhibitor")
    config.sliding_window = 2
    common = {"config": config, "inputs_embeds": torch.zeros(B, N, 4), "attention_mask": padding}
    valid = torch.ones(B, N).bool() if padding is None else padding.bool()
    bidirectional = create_bidirectional_mask(**common)
    assert (bidirectional is None) == bool(valid.all())
    assert bidirectional is None or torch.equal(bidirectional, valid)
    causal = create_causal_mask(**common, past_key_values=None)
    expected = (distance(N, N) >= 0) & valid[:, None, None, :]
    assert torch.equal(causal.expand(B, 1, N, N), expected)
    window = create_sliding_window_causal_mask(**common, past_key_values=None)
    assert torch.equal(window.expand(B, 1, N, N), expected & (distance(N, N) < 2))


@pytest.mark.parametrize("requested", ["sdpa", "eager", None])
def test_require_inhibitor(requested: str | None) -> None:
    require_inhibitor("inhibitor")
    with pytest.raises(ValueError, match=f"attn_implementation={requested!r} would run softmax"):
        require_inhibitor(requested)
