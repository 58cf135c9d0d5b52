"""Registers inhibitor attention and its mask with transformers, under the name "inhibitor"."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from ..attention import InhibitorScalars, inhibition_scores, inhibitor_attention
from ..attention.integer import IntegerInhibitor, integer_attention, integer_scores
from ..attention.transforms import is_plain
from .value_center import center_values

ATTENTION_NAME = "inhibitor"


def inhibitor_attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function of transformers' interface.

    Args:
        module: the attention module (nn.Module); carries its config and `inhibitor`: InhibitorScalars, or when it is
            quantised IntegerInhibitor.
        query, key, value: (B, H, N, D), heads of key and value unrepeated.
        attention_mask: None, (B, Nk) bool or (B, 1 or H, Nq, Nk) bool; True = valid; the latter not with
            `inhibitor_value_center="mean"`.
        scaling: ignored; the operation divides by √D itself and γ scales it.
        dropout: probability of dropping a key.

    Returns:
        (B, N, H, D), and the scores Z (B, H, Nq, Nk) if `output_attentions` was asked for.
    """
    inhibitor = getattr(module, "inhibitor", None)
    if not isinstance(inhibitor, InhibitorScalars | IntegerInhibitor):
        raise ValueError(
            f"{type(module).__name__} has no inhibitor scalars: attn_implementation={ATTENTION_NAME!r} is for "
            "models built with inhibitor attention; build one with InhibiDistilBertModel.from_teacher(teacher)"
        )
    masks: dict[str, Any] = {}
    if attention_mask is not None:
        masks["key_padding_mask" if attention_mask.dim() == 2 else "attn_mask"] = attention_mask
    config = module.config
    center, signed = config.inhibitor_center, config.inhibitor_signed
    shrunk = center_values(value, attention_mask, config.inhibitor_value_center)
    wants_scores, z = kwargs.get("output_attentions"), None
    if isinstance(inhibitor, IntegerInhibitor):
        if dropout:
            raise ValueError("a quantised model cannot be trained: call model.eval()")
        context = integer_attention(query, key, shrunk.values, inhibitor.heads, **masks, signed=signed, center=center)
        if wants_scores:
            z = integer_scores(query, key, inhibitor.heads, **masks, center=center)
    else:
        scalars = inhibitor.as_arguments()
        context = inhibitor_attention(
            query, key, shrunk.values, **scalars, **masks, signed=signed, center=center, dropout_p=dropout
        )
        if wants_scores:
            z = inhibition_scores(query, key, gamma=inhibitor.gamma, delta=inhibitor.delta, **masks, center=center)
    return shrunk.restore(context).transpose(1, 2), z


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
    if mask_function is not bidirectional_mask_function:
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask, **kwargs)
    if attention_mask is None:
        return None
    if attention_mask.shape[1] != kv_length:
        raise ValueError(f"attention_mask has {attention_mask.shape[1]} keys, the layer has {kv_length}")
    padding = attention_mask.bool()
    # Reading the mask is free on a CPU only: elsewhere it would wait for the device, and recorded it would branch.
    # Transformers may take kv_length from the mask itself: one that does not fit the texts must stay, to be refused.
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
