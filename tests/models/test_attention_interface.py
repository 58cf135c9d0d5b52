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
from inhibitor_transformers.models.attention_interface import (
    inhibitor_attention_forward,
    inhibitor_mask,
    require_inhibitor,
)
from tests.models.tiny import texts, tiny_config, tiny_student

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


@pytest.mark.parametrize(
    "name",
    ["position_bias", "softcap", "s_aux", "sliding_window", "cu_seq_lens_q", "max_length_q", "block_mask", "soft_cap"],
)
def test_what_is_not_computed_is_refused_by_name(name: str) -> None:
    module, (q, k, v) = attention_module(), qkv()
    with pytest.raises(ValueError, match=f"does not compute {name}: leave it out"):
        inhibitor_attention_forward(module, q, k, v, None, **{name: 1.0})
    with pytest.raises(ValueError, match=f"does not compute {name}: leave it out"):
        tiny_student()(**texts(), **{name: torch.ones(1)})
    plain, _ = inhibitor_attention_forward(module, q, k, v, None)
    assert torch.equal(inhibitor_attention_forward(module, q, k, v, None, **{name: None})[0], plain)


def test_what_changes_no_attention_is_let_through() -> None:
    module, (q, k, v) = attention_module(), qkv()
    plain, _ = inhibitor_attention_forward(module, q, k, v, None)
    found, _ = inhibitor_attention_forward(
        module,
        q,
        k,
        v,
        None,
        position_ids=torch.arange(N)[None],
        cache_position=torch.arange(N),
        num_items_in_batch=torch.tensor(3),
        output_hidden_states=True,
        use_cache=False,
        return_dict=True,
    )
    assert torch.equal(found, plain)


@pytest.mark.parametrize("scaling", [1.0, 0.5, -(D**-0.5), 0.0, float("nan")])
def test_another_scaling_is_refused(scaling: float) -> None:
    module, (q, k, v) = attention_module(), qkv()
    with pytest.raises(ValueError, match=r"scales by 1/√3 = 0\.57735, not by .*: set γ"):
        inhibitor_attention_forward(module, q, k, v, None, scaling=scaling)
    model = tiny_student()
    model.transformer.layer[0].attention.scaling = scaling
    with pytest.raises(ValueError, match="scales by"):
        model(**texts())


@pytest.mark.parametrize("mask", [None, PADDING, PADDING[:, None, None, :] & torch.rand(B, 1, N, N).gt(0.3)])
@pytest.mark.parametrize("said_by", ["argument", "module"])
def test_causality_is_obeyed(said_by: str, mask: Tensor | None) -> None:
    module, (q, k, v) = attention_module(), qkv()
    module.is_causal = said_by == "module"
    said = {"is_causal": True} if said_by == "argument" else {}
    found, z = inhibitor_attention_forward(module, q, k, v, mask, output_attentions=True, **said)
    # As in transformers, a mask per query stands over what the module says of itself.
    causal = said_by == "argument" or mask is None or mask.dim() == 2
    scalars = module.inhibitor.as_arguments()
    expected = inhibitor_attention(q, k, v, **scalars, **masks(mask), is_causal=causal)
    assert torch.equal(found.transpose(1, 2), expected)
    assert z is not None
    assert z[..., 0, 1:].isinf().all() == causal
    freely, _ = inhibitor_attention_forward(module, q, k, v, mask, is_causal=False)
    assert torch.equal(freely.transpose(1, 2), inhibitor_attention(q, k, v, **scalars, **masks(mask)))


def test_a_causal_model() -> None:
    model, inputs = tiny_student(), texts(padding=False)
    causal = model(**inputs, is_causal=True).last_hidden_state
    for length in (1, 4):
        shorter = {name: value[:, :length] for name, value in inputs.items()}
        found = model(**shorter, is_causal=True).last_hidden_state
        torch.testing.assert_close(found[:, -1], causal[:, length - 1])
    assert not torch.allclose(causal, model(**inputs).last_hidden_state)


def test_causality_and_centered_values_do_not_go_together() -> None:
    module, (q, k, v) = attention_module(inhibitor_value_center="mean"), qkv()
    with pytest.raises(ValueError, match="every query has a mean value of its own; use inhibitor_value_center='none'"):
        inhibitor_attention_forward(module, q, k, v, None, is_causal=True)


@pytest.mark.parametrize("center", ["none", "mean"])
@pytest.mark.parametrize("mask", [torch.zeros(B, N), torch.ones(B, N).long(), torch.zeros(B, 1, N, N)])
def test_additive_masks_are_refused(mask: Tensor, center: str) -> None:
    module, (q, k, v) = attention_module(inhibitor_value_center=center), qkv()
    with pytest.raises(ValueError, match=r"bool tensor|must be bool|a key padding mask \(batch, keys\)"):
        inhibitor_attention_forward(module, q, k, v, mask)


def test_dropout_is_passed_on() -> None:
    module, (q, k, v) = attention_module(), qkv()
    attention_outputs = [inhibitor_attention_forward(module, q, k, v, None, dropout=p)[0] for p in (0.0, 0.0, 0.5)]
    assert torch.equal(attention_outputs[0], attention_outputs[1])
    assert not torch.equal(attention_outputs[0], attention_outputs[2])


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


@pytest.mark.parametrize("rows", [1, B - 1, B + 3])
@pytest.mark.parametrize("function", [bidirectional_mask_function, causal_mask_function])
@pytest.mark.parametrize("masked", [False, True])
def test_a_mask_for_another_batch_is_refused(rows: int, function: Any, masked: bool) -> None:
    """Whether or not there is something to mask: what is refused must not depend on what a mask holds."""
    mask = torch.ones(rows, N)
    mask[0, -1] = not masked
    with pytest.raises(ValueError, match=f"attention_mask has {rows} rows, the batch has {B}"):
        inhibitor_mask(B, N, N, mask_function=function, attention_mask=mask, device=torch.device("cpu"))
    inputs = texts()
    with pytest.raises(ValueError, match=r"attention_mask has 5 rows, the batch has 3"):
        tiny_student()(inputs["input_ids"], torch.ones(5, inputs["input_ids"].shape[1]))


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
