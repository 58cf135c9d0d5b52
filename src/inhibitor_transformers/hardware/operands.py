"""Quantized queries, keys and values of real text: what the circuits of a head see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..attention.integer.qparams import Bits
from ..attention.integer.quantize import quantize_features, quantize_values
from ..deploy.quantize.activations import watch_attention
from ..deploy.quantize.attention import AttentionInputs
from ..deploy.quantize.texts import Batch
from ..models.architectures import attention_layers
from ..models.value_center import center_values
from .circuits.head_size import Integers
from .softmax_attention import choose_steps

Call = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class InhibitorOperands:
    """One head that reads one text: q, k (n, F) in 0 … 2^b − 1, v (n, Dv) signed; σ, δ̂, s of the specification."""

    bits: int
    q: Integers
    k: Integers
    v: Integers
    sign: int
    delta: int
    shift: int
    centered: bool


@dataclass(frozen=True)
class SoftmaxOperands:
    """One head that reads one text: q, k (n, D), v (n, Dv) signed; shift and gain of `SoftmaxSteps`."""

    bits: int
    q: Integers
    k: Integers
    v: Integers
    shift: int
    gain: int


Head = TypeVar("Head", InhibitorOperands, SoftmaxOperands)


def pair_heads(first: Head, second: Head) -> Head:
    """Two heads of a layer side by side, as one of twice the size: the sum of their distances, or products.

    With one shift more scores are about the mean of the two heads'. Raises ValueError for heads of different σ.
    """
    both = {name: np.concatenate([getattr(first, name), getattr(second, name)], 1) for name in ("q", "k", "v")}
    changed: dict[str, Any] = both | {"shift": max(first.shift, second.shift) + 1}
    if isinstance(first, InhibitorOperands) and isinstance(second, InhibitorOperands):
        if first.sign != second.sign:
            raise ValueError(f"two heads with signs {first.sign} and {second.sign} make no head of twice the size")
        changed["delta"] = first.delta + second.delta
    return replace(first, **changed)


def attention_calls(model: PreTrainedModel, batches: Sequence[Batch]) -> list[list[Call]]:
    """q, k, v (B, H, N, D) and valid (B, N) of each attention layer, first layer first, for each batch."""
    calls: dict[str, list[Call]] = {layer.name: [] for layer in attention_layers(model)}
    value_center: Any = getattr(model.config, "inhibitor_value_center", "none")

    def add(name: str, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> None:
        calls[name].append((q, k, center_values(v, valid, value_center).values, valid))

    watch_attention(model, batches, add)
    return list(calls.values())


@torch.no_grad()
def inhibitor_operands(
    model: PreTrainedModel, calibration: Sequence[Batch], text: Batch, bits: Bits
) -> list[list[InhibitorOperands]]:
    """Of each layer and head of an inhibitor encoder that reads `text` (one, without padding), features unsplit."""
    options: dict[str, Any] = {"signed": model.config.inhibitor_signed, "center": model.config.inhibitor_center}
    found = []
    for layer, seen, ((q, k, v, _),) in zip(
        attention_layers(model), attention_calls(model, calibration), attention_calls(model, [text]), strict=True
    ):
        inputs = AttentionInputs()
        for call in seen:
            inputs.add(*call)
        qparams = inputs.best_qparams(layer.scalars, bits, options, split=False)
        values = quantize_values(v, qparams)
        if not options["signed"]:  # Σ max(v − z, 0) is the signed sum of max(v, 0), as z ≥ 0
            values = values.clamp_min(0)
        integers = [_integers(t) for t in (quantize_features(q, qparams), quantize_features(k, qparams), values)]
        numbers = [t.tolist() for t in (qparams.sign, qparams.delta, qparams.shift)]
        heads: list[Any] = [
            (bits, *head, options["center"] == "mean") for head in zip(*integers, *numbers, strict=True)
        ]
        found.append([InhibitorOperands(*head) for head in heads])
    return found


@torch.no_grad()
def softmax_operands(
    model: PreTrainedModel, calibration: Sequence[Batch], text: Batch, bits: int
) -> list[list[SoftmaxOperands]]:
    """Of each layer and head of a softmax encoder that reads `text` (one, without padding)."""
    found = []
    for seen, (call,) in zip(attention_calls(model, calibration), attention_calls(model, [text]), strict=True):
        steps = choose_steps([(q, k, v, valid[:, None, None, :]) for q, k, v, valid in seen], bits)
        top = 2 ** (bits - 1) - 1
        integers = [
            _integers((x / step[:, None, None]).round().clamp(-top, top))
            for x, step in zip(call, (steps.q_step, steps.k_step, steps.v_step), strict=False)
        ]
        numbers = [t.tolist() for t in (steps.shift, steps.gain)]
        found.append([SoftmaxOperands(bits, *head) for head in zip(*integers, *numbers, strict=True)])
    return found


def _integers(x: Tensor) -> Integers:
    """The first text's: (H, n, …)."""
    return x[0].numpy().astype(np.int64)
