"""Inhibitor attention in plain operators, put in place of the engines of a model that is to leave Python.

    H = η (n₀/n)^ρ · Σ_{j∈J} shrink(v_j, relu(s (d_j − Σ_l w_l d_l) + δ)),   d_j = Σ|q − k_j|,   s = γ/√D,   w_l = 1/n

The sum is where the formats differ: what is fast in ONNX Runtime (`onnx_sums`) is not what is fast in torch
(`torch_sums`).
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...attention import InhibitorScalars
from ...attention.call import ModelCenter
from ...models.architectures import AttentionLayer, attention_layers
from ...models.inhibidistilbert import InhibiDistilBertPreTrainedModel
from ...models.quantized.modules import replace
from ...models.value_center import center_values


class ShrunkenSums(Protocol):
    """Σ_j shrink(v_j, z_j) over the valid keys, and the scores z that it needs."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        valid: Tensor,
        share: Tensor,
        slope: Tensor,
        shift: Tensor,
        signed: bool,
    ) -> Tensor:
        """(B, H, N, D) of queries, keys and values (B, H, N, D) float32.

        valid: (B, N) bool. share: (B, N), how much each key counts in the mean that is subtracted. slope and shift:
        (H,), γ/√D and δ.
        """


def plain_attention(
    sums: ShrunkenSums,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    valid: Tensor,
    scalars: InhibitorScalars,
    *,
    signed: bool,
    center: ModelCenter,
) -> Tensor:
    """What `inhibitor_attention` gives for (B, H, N, D) float32 and a (B, N) bool mask, in plain operators."""
    members = valid.to(query.dtype)
    count = members.sum(-1, keepdim=True).clamp(min=1)
    share = members / count if center == "mean" else torch.zeros_like(members)
    slope = scalars.gamma / math.sqrt(query.shape[-1])
    output = sums(query, key, value, valid, share, slope, scalars.delta, signed)
    length = (scalars.length_reference / count)[:, None, None] ** scalars.length_exponent[:, None, None]
    return output * (scalars.eta[:, None, None] * length)


class TracedAttention(nn.Module, ABC):
    """The self-attention of a layer, with its weights, in the form that `attend` gives; to be traced, not trained."""

    def __init__(self, original: AttentionLayer) -> None:
        super().__init__()
        # Under DistilBERT's names: the state dict stays the model's.
        self.q_lin, self.k_lin, self.v_lin = original.query, original.key, original.value
        self.inhibitor, self.out_lin = original.scalars, original.output
        self.config = original.module.config

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """As DistilBERT's self-attention: (B, N, dim) for hidden states (B, N, dim) and a (B, N) bool mask."""
        if attention_mask is None:  # when nothing is padded; a trace always has a mask
            attention_mask = hidden_states.new_ones(hidden_states.shape[:2], dtype=torch.bool)
        q, k, v = (of(hidden_states) for of in (self.q_lin, self.k_lin, self.v_lin))
        return self.out_lin(self.attend(q, k, v, attention_mask)), None

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor) -> Tensor:
        """Attention outputs (B, N, dim) of projections (B, N, dim) and a (B, N) bool mask."""


class PlainAttention(TracedAttention):
    """In plain operators."""

    def __init__(self, original: AttentionLayer, sums: ShrunkenSums) -> None:
        super().__init__(original)
        self.sums = sums

    def attend(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor) -> Tensor:
        config = self.config
        heads = (*query.shape[:-1], config.n_heads, config.dim // config.n_heads)
        q, k, v = (t.view(heads).transpose(1, 2) for t in (query, key, value))
        options = {"signed": config.inhibitor_signed, "center": config.inhibitor_center}
        shrunk = center_values(v, valid, config.inhibitor_value_center)
        output = plain_attention(self.sums, q, k, shrunk.values, valid, self.inhibitor, **options)
        return shrunk.restore(output).transpose(1, 2).reshape(query.shape)


def with_attention(
    model: InhibiDistilBertPreTrainedModel, make: Callable[[AttentionLayer], TracedAttention]
) -> InhibiDistilBertPreTrainedModel:
    """A copy of `model`, which is not quantized, with what `make` gives for each layer's attention."""
    copied = copy.deepcopy(model)
    for layer in attention_layers(copied):
        replace(copied, layer.name, make(layer))
    return copied


def with_plain_attention(model: InhibiDistilBertPreTrainedModel, sums: ShrunkenSums) -> InhibiDistilBertPreTrainedModel:
    """A copy of `model` with `PlainAttention`."""
    return with_attention(model, lambda layer: PlainAttention(layer, sums))
