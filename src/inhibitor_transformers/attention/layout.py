"""The layout of results and the types of a call's parts, as compiled engines take them."""

from __future__ import annotations

from torch import Tensor

Tensors = tuple[Tensor, ...]
Masks = tuple[Tensor | None, Tensor | None]  # key padding, attention
Options = tuple[float, bool, bool, bool]  # length reference, causal, signed, centered


def heads_last(like: Tensor, features: int) -> Tensor:
    """An empty (B, H, N, features) whose memory is (B, N, H, features): merging the heads is then free."""
    batch, heads, rows, _ = like.shape
    strides = (rows * heads * features, features, heads * features, 1)
    return like.new_empty_strided((batch, heads, rows, features), strides)
