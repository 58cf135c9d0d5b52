"""Registers inhibitor attention and its mask with transformers, under the name "inhibitor"."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from ..attention.transforms import is_plain
from .value_center import center_values

ATTENTION_NAME = "inhibitor"
# Arguments that transformers passes to every attention function and that change no result here.
WITHOUT_EFFECT = frozenset(
    (
        "cache_position",
        "num_items_in_batch",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "use_cache",
    )
)


def inhibitor_attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    output_attentions: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function of transformers' interface.

    Args:
        module: the attention module (nn.Module); carries its config and `inhibitor`: InhibitorScalars, when it is
            quantized QuantizedScalars, or what a library put in its place; only its call is used.
        query, key, value: (B, H, N, D), heads of key and value unrepeated.
        attention_mask: None, (B, Nk) bool or (B, 1 or H, Nq, Nk) bool; True = valid; the latter not with
            `inhibitor_value_center="mean"`.
        scaling: None or 1/√D, by which the operation multiplies itself; γ scales it.
        dropout: probability of dropping a key.
        is_causal: whether each query, of the last Nq of Nk positions, sees only the keys up to its own; as the module's
            `is_causal` says if None, unless a mask per query says it already.
        output_attentions: whether scores are wanted.
        kwargs: arguments of transformers that change no result here; any other must be None.

    Returns:
        (B, N, H, D), and the scores Z (B, H, Nq, Nk) if `output_attentions` was asked for.

    Raises ValueError for a module without scalars, and for what would change the result and is not computed here.
    """
    inhibitor = getattr(module, "inhibitor", None)
    if inhibitor is None:
        raise ValueError(
            f"{type(module).__name__} has no inhibitor scalars: attn_implementation={ATTENTION_NAME!r} is for "
            "models built with inhibitor attention; build one with InhibiDistilBertModel.from_teacher(teacher)"
        )
    masks: dict[str, Any] = {}
    if attention_mask is not None:
        masks["key_padding_mask" if attention_mask.dim() == 2 else "attn_mask"] = attention_mask
    if is_causal is None:
        is_causal = getattr(module, "is_causal", False) and (attention_mask is None or attention_mask.dim() == 2)
    config = module.config
    _refuse_what_is_not_computed(kwargs, scaling, query.shape[-1])
    if is_causal and config.inhibitor_value_center != "none":
        raise ValueError("causal: every query has a mean value of its own; use inhibitor_value_center='none'")
    shrunk = center_values(value, attention_mask, config.inhibitor_value_center)
    output, z = inhibitor(
        query,
        key,
        shrunk.values,
        need_scores=bool(output_attentions),
        **masks,
        is_causal=bool(is_causal),
        signed=config.inhibitor_signed,
        center=config.inhibitor_center,
        dropout_p=dropout,
    )
    return shrunk.restore(output).transpose(1, 2), z


def _refuse_what_is_not_computed(kwargs: dict[str, Any], scaling: float | None, dim: int) -> None:
    if unknown := sorted(name for name, given in kwargs.items() if given is not None and name not in WITHOUT_EFFECT):
        raise ValueError(f"inhibitor attention does not compute {', '.join(unknown)}: leave it out")
    if scaling is not None and not abs(scaling * dim**0.5 - 1) < 1e-5:
        raise ValueError(
            f"inhibitor attention scales by 1/√{dim} = {dim**-0.5:.6g}, not by {scaling:.6g}: set γ (inhibitor.gamma)"
        )


def inhibitor_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = bidirectional_mask_function,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor | None:
    """Mask function of transformers' interface: (B, Nk) bool for padding alone, else (B, 1, Nq, Nk) bool.

    Raises ValueError for an `attention_mask` that is not (B, Nk) = (batch_size, kv_length).
    """
    if attention_mask is not None and attention_mask.dim() != 2:
        raise ValueError(
            "attention_mask must be (batch, keys), or bool (batch, 1 or heads, queries, keys) with True = valid; "
            f"got {tuple(attention_mask.shape)}"
        )
    if attention_mask is not None and attention_mask.shape[0] != batch_size:
        raise ValueError(f"attention_mask has {attention_mask.shape[0]} rows, the batch has {batch_size}")
    if mask_function is not bidirectional_mask_function:
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask, **kwargs)
    if attention_mask is None:
        return None
    if attention_mask.shape[1] != kv_length:
        raise ValueError(f"attention_mask has {attention_mask.shape[1]} keys, the layer has {kv_length}")
    padding = attention_mask.bool()
    # Reading the mask is free on a CPU only: elsewhere it would wait for the device, and recorded it would branch.
    # Transformers may take kv_length from the mask itself: a mask that does not fit must stay, to be refused.
    readable = padding.device.type == "cpu" and is_plain(padding)
    return None if readable and q_length == kv_length and padding.all() else padding


def require_inhibitor(requested: str | None) -> None:
    """Raise ValueError unless `requested`, an `attn_implementation`, is "inhibitor"."""
    if requested != ATTENTION_NAME:
        raise ValueError(
            f"this model computes inhibitor attention; attn_implementation={requested!r} would run softmax "
            f"attention with weights that were not made for it. Leave attn_implementation out"
        )


AttentionInterface.register(ATTENTION_NAME, inhibitor_attention_forward)
AttentionMaskInterface.register(ATTENTION_NAME, inhibitor_mask)
