"""One call of inhibitor attention in the form that engines receive: its arguments, checked (checks.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Center = Literal["mean", "none", "min"]
Scalar = float | Tensor

ModelCenter = Literal["mean", "none"]  # of InhibiDistilBERT, its integers and its exports

CENTERS: tuple[Center, ...] = ("mean", "none", "min")


LEAST_PASSED = 0.1  # keys: what a normalized sum is divided by at the least


class Tensors(NamedTuple):
    """Every tensor through which gradients flow: q, k, v as in `MaskedTensors`, scalars (H,), bias (H or 1, Nq, Nk)."""

    query: Tensor
    key: Tensor
    value: Tensor
    gamma: Tensor
    eta: Tensor
    delta: Tensor
    length_exponent: Tensor
    key_norm: Tensor | None = None
    unit: Tensor | None = None
    score_bias: Tensor | None = None

    @property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.query, self.key, self.value

    @property
    def scalars(self) -> tuple[Tensor | None, ...]:
        """What each head has one of: gamma, eta, delta, length exponent, key norm and unit."""
        return self[3:9]


def spread(values: Sequence[Any], like: Sequence[Any]) -> tuple[Any, ...]:
    """The next of `values` for each of `like` that is not None, and None for each that is."""
    given = iter(values)
    return tuple(None if one is None else next(given) for one in like)


class Masks(NamedTuple):
    """Key padding (B, Nk) and attention mask (B, H, Nq, Nk), both bool, True = valid; None: all are."""

    key_padding_mask: Tensor | None
    attn_mask: Tensor | None


class Options(NamedTuple):
    """What is no tensor."""

    length_reference: float
    is_causal: bool
    is_signed: bool
    center: str


@dataclass(frozen=True)
class MaskedTensors:
    """Query, key, value and masks of one call, checked: engines may rely on everything stated here.

    Shapes: query (B, H, Nq, D), key (B, Hkv, Nk, D), value (B, Hkv, Nk, Dv), H a multiple of Hkv,
    all of one floating dtype on one device. `key_padding_mask`: (B, Nk) bool or None. `attn_mask`: bool,
    expanded without copy to (B, H, Nq, Nk), or None. True = valid in both.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    key_padding_mask: Tensor | None
    attn_mask: Tensor | None
    is_causal: bool
    signed: bool
    center: Center

    @property
    def groups(self) -> int:
        """Query heads that share one key/value head."""
        return self.query.shape[1] // max(self.key.shape[1], 1)

    def masks(self) -> Masks:
        """Both masks, as kernels take them."""
        return Masks(self.key_padding_mask, self.attn_mask)

    def valid_pairs(self) -> Tensor | None:
        """All masks as one bool tensor broadcastable to (B, H, Nq, Nk); None when all pairs count."""
        masks = []
        if self.key_padding_mask is not None:
            masks.append(self.key_padding_mask[:, None, None, :])
        if self.attn_mask is not None:
            masks.append(self.attn_mask)
        if self.is_causal:
            masks.append(causal_mask(self.query.shape[2], self.key.shape[2], self.query.device))
        if not masks:
            return None
        valid = masks[0]
        for mask in masks[1:]:
            valid = valid & mask
        return valid


@dataclass(frozen=True)
class AttentionCall(MaskedTensors):
    """The same with scalars and bias, all in `compute_dtype`.

    `gamma`, `eta`, `delta`, `length_exponent`: (H,); `key_norm`, `unit`: (H,) or None. `score_bias`: (H or 1, Nq, Nk)
    or None.
    """

    gamma: Tensor
    eta: Tensor
    delta: Tensor
    length_exponent: Tensor
    length_reference: float
    key_norm: Tensor | None = None
    unit: Tensor | None = None
    score_bias: Tensor | None = None

    @property
    def compute_dtype(self) -> torch.dtype:
        """float64 for float64 inputs, float32 for everything else."""
        return compute_dtype(self.query.dtype)

    def tensors(self) -> Tensors:
        """Every tensor through which a gradient can flow."""
        scalars = (self.gamma, self.eta, self.delta, self.length_exponent, self.key_norm, self.unit)
        return Tensors(self.query, self.key, self.value, *scalars, self.score_bias)

    def options(self) -> Options:
        """What is no tensor, as kernels take it."""
        return Options(self.length_reference, self.is_causal, self.signed, self.center)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that arithmetic runs in for inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def causal_mask(query_length: int, key_length: int, device: torch.device) -> Tensor:
    """(1, 1, Nq, Nk) bool; the queries are the last Nq of Nk positions, as in cached decoding."""
    positions = torch.arange(key_length, device=device)
    last = torch.arange(query_length, device=device) + (key_length - query_length)
    return (positions[None, :] <= last[:, None])[None, None]


def drop_keys(call: AttentionCall, dropout_p: float) -> AttentionCall:
    """Drop whole keys per sequence and head, rescaling the sum by 1/(1 − p).

    A value of zero adds nothing whatever its inhibition, signed or not; so dropping a key is zeroing
    its value. The key stays in the centering mean and in the count n, so that the expectation over
    draws is exactly the undropped output. Draws nothing at p = 0. Raises ValueError.
    """
    if not (isinstance(dropout_p, (int, float)) and 0.0 <= dropout_p < 1.0):
        raise ValueError(f"dropout_p must be in [0, 1), got {dropout_p!r}")
    if dropout_p == 0.0:
        return call
    batch, heads, keys = call.query.shape[0], call.query.shape[1], call.key.shape[2]
    dropped = torch.rand(batch, heads, keys, 1, device=call.query.device) < dropout_p
    return replace(
        call,
        key=call.key.repeat_interleave(call.groups, dim=1),
        value=call.value.repeat_interleave(call.groups, dim=1).masked_fill(dropped, 0.0),
        eta=call.eta / (1.0 - dropout_p),
    )
