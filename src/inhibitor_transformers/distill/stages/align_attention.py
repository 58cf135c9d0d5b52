"""Stage "align_attention": every attention layer gives the teacher's attention output, fed the teacher's own input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...common.progress import track
from ...models import LayerMap
from ..losses import Terms, squared_error
from ..pairing import Pairing
from .base import Batch, RunContext, TrainedStage, statistics_batches


@dataclass
class AlignAttention(TrainedStage):
    """Trains what attention outputs depend on (q, k, v and the scalars), all layers at once; the rest stays."""

    name: ClassVar[str] = "align_attention"

    def make_loss(self, context: RunContext, dataset: Any) -> AttentionOutputLoss:
        batches = statistics_batches(context, dataset)
        return AttentionOutputLoss(context.pairing, attention_output_mean_squares(context.pairing, batches))

    def teacher_outputs(self, layer_map: LayerMap) -> list[str]:
        return [f"{kind}-{source}" for kind in ("attention_outputs", "hidden") for source in layer_map.teacher_layers]

    def select_trainable(self, pairing: Pairing) -> None:
        trained = pairing.attention_parameters()
        pairing.student.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


class AttentionOutputLoss:
    """Squared error of the attention outputs, every layer at once, each fed the teacher's own layer input.

    mean_squares: of the teacher's attention outputs, per layer. Each layer's error is divided by it, so that layers
    weigh alike and a term reads as a relative error.
    """

    def __init__(self, pairing: Pairing, mean_squares: Sequence[float]) -> None:
        self.pairing, self.mean_squares = pairing, mean_squares

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        terms = {}
        layers = zip(self.pairing.attention_outputs(batch), self.mean_squares, strict=True)
        for (label, ours, theirs, valid), mean_square in layers:
            error = squared_error(ours, theirs, valid, self.pairing.count(valid, batch, count))
            terms[f"attention/{label}"] = error / mean_square
        return terms


@torch.no_grad()
def attention_output_mean_squares(pairing: Pairing, batches: Sequence[Batch]) -> list[float]:
    """Mean square of the teacher's attention outputs over the valid tokens, per layer."""
    totals: dict[str, Tensor] = {}
    counts: dict[str, float] = {}
    for batch in track(batches, "measuring the teacher's outputs"):
        for label, states, valid in pairing.teacher_attention_outputs(batch):
            error = squared_error(states, torch.zeros_like(states), valid, 1.0)
            totals[label] = totals.get(label, torch.zeros(())) + float(error)
            counts[label] = counts.get(label, 0.0) + float(valid.sum())
    return [float(total / counts[label]) for label, total in totals.items()]


@torch.no_grad()
def attention_output_errors(pairing: Pairing, batches: Sequence[Batch]) -> list[float]:
    """Per layer: Σ|student − teacher|² / Σ|teacher|² of the attention outputs over all valid tokens.

    Each layer is fed the teacher's own layer input, as in training.
    """
    loss = AttentionOutputLoss(pairing, attention_output_mean_squares(pairing, batches))
    pairing.student.eval()
    count = float(sum(batch["attention_mask"].sum() for batch in batches))
    errors: dict[str, float] = {}
    for batch in track(batches, "comparing attention outputs"):
        for label, term in loss(pairing.student, batch, count).items():
            errors[label] = errors.get(label, 0.0) + float(term)
    return list(errors.values())
