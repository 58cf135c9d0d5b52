"""The masks of a call through transformers' attention interface, and the mask functions of converted models."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, sdpa_mask

from ...attention.transforms import is_plain

# Below which an additive mask hides a pair: Swin writes -100, others the least number of the dtype.
_HIDDEN = -50.0


class CallMasks(NamedTuple):
    """The masks of one call, as `inhibitor_attention` takes them, and what is added to the scores of its softmax.

    bias: None, or (H or 1, Nq, Nk).
    """

    key_padding_mask: Tensor | None
    attn_mask: Tensor | None
    is_causal: bool
    bias: Tensor | None

    def valid(self, queries: int, keys: int) -> Tensor:
        """(B or 1, H or 1, Nq, Nk) bool: which pairs count."""
        device = next((t.device for t in (self.key_padding_mask, self.attn_mask, self.bias) if t is not None), None)
        pairs = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=device)
        if self.is_causal:
            pairs = pairs.tril(keys - queries)
        if self.key_padding_mask is not None:
            pairs = pairs & self.key_padding_mask[:, None, None]
        return pairs if self.attn_mask is None else pairs & self.attn_mask

    def without_bias(self, name: str) -> CallMasks:
        """The same for a module, `name`, whose scores have none. Raises ValueError if they do."""
        if self.bias is None:
            return self
        _require((self.bias == 0).all(), f"an additive term in {name} that the example given to convert() lacked")
        return self._replace(bias=None)


def read_masks(
    module: Any, query: Tensor, attention_mask: Tensor | None, is_causal: bool | None, position_bias: Tensor | None
) -> CallMasks:
    """What an attention function of transformers was given, in one form.

    Args:
        module: the attention module; its `is_causal` counts where the argument is None.
        query: (B, H, Nq, D).
        attention_mask: None; bool (B, Nk) from our mask function, of causal models; bool (B or 1, 1 or H, 1 or Nq, Nk);
            or floating, added to scores, of the latter shape.
        position_bias: None or (1, 1 or H, Nq, Nk), added to scores.

    Raises ValueError for a bias that differs within the batch.
    """
    bias = None if position_bias is None else _shared_bias(position_bias)
    compact = attention_mask is None or attention_mask.dim() == 2
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)  # as sdpa does
    causal = bool(is_causal) and compact and query.shape[2] > 1
    if attention_mask is None or attention_mask.dim() == 2:
        return CallMasks(attention_mask, None, causal, bias)
    if attention_mask.dtype != torch.bool:
        attention_mask, added = _split_additive(attention_mask)
        bias = added if bias is None else bias + added
    if attention_mask.shape[1] == attention_mask.shape[2] == 1 and len(attention_mask) == len(query):
        return CallMasks(attention_mask[:, 0, 0], None, causal, bias)
    return CallMasks(None, attention_mask, causal, bias)


def _shared_bias(bias: Tensor) -> Tensor:
    """(1, H or 1, Nq, Nk), or that of a batch of equals, as (H or 1, Nq, Nk)."""
    if len(bias) > 1:
        _require((bias == bias[:1]).all(), "a score bias that differs within the batch")
    return bias[0]


def _split_additive(mask: Tensor) -> tuple[Tensor, Tensor]:
    """An additive mask (B or 1, H or 1, Nq, Nk) as the pairs that count, bool, and the bias that the batch shares."""
    bias = mask.amax(0, keepdim=True)
    bias = bias.masked_fill(bias <= _HIDDEN, 0.0)
    difference = mask - bias
    hidden = difference <= _HIDDEN
    _require(
        (hidden | (difference.abs() <= 1e-6 * (1 + bias.abs()))).all(), "a score bias that differs within the batch"
    )
    return ~hidden, bias[0]


def _require(holds: Tensor, otherwise: str) -> None:
    """Refuse without waiting for a device, and where operators are recorded at the time they run."""
    if is_plain(holds) and holds.device.type == "cpu":
        if not holds:
            raise ValueError(f"inhibitor attention does not compute {otherwise}")
    else:
        torch._assert_async(holds, f"inhibitor attention does not compute {otherwise}")


def compact_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    mask_function: Any = bidirectional_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **kwargs: Any,
) -> Tensor | None:
    """Mask function of transformers' interface that makes no mask of queries × keys where it can.

    Returns (B, Nk) bool, or None for no padding, where each of the last q_length positions sees the keys up to its own:
    `is_causal` says the rest. (B, 1, 1, Nk) bool, or None, where all queries see the same keys. Else
    (B, 1, q_length, kv_length) bool. True = valid.
    """
    everyone = mask_function is bidirectional_mask_function
    aligned = (
        isinstance(q_offset, int) and kv_offset == 0 and q_offset + q_length == kv_length  # no cache of fixed size
    )
    causal = mask_function is causal_mask_function or (local_size is not None and kv_length <= local_size)
    compact = everyone or (causal and aligned and allow_is_causal_skip and not kwargs.get("use_vmap"))
    fits = attention_mask is None or attention_mask.shape[-1] == kv_length
    if not (compact and fits):
        masks = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        given = (batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask)
        return sdpa_mask(*given, **(kwargs | masks))
    if attention_mask is None:
        return None
    padding = attention_mask.bool()
    # Reading the mask is free on a CPU only, and recorded it would branch.
    if padding.device.type == "cpu" and is_plain(padding) and padding.all():
        return None
    return padding[:, None, None] if everyone else padding


def explicit_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Mask function of transformers' interface: bool (B, 1, Nq, Nk), True = valid, wherever a mask is asked for."""
    return sdpa_mask(*args, **(kwargs | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}))
