"""Stage "align_attention": every attention layer gives the teacher's attention output, fed the teacher's own input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...common.progress import track
from ...models import InhibiDistilBertPreTrainedModel, LayerMap
from ...models.architectures import attention_layers, record_attention_outputs
from ..data import StepBatches
from ..losses import Terms, squared_error
from ..teacher.teacher import Teacher
from .base import Batch, RunContext, TrainedStage, statistics_batches


@dataclass
class AlignAttention(TrainedStage):
    """Trains q, k, v and the scalars of all layers at once; everything else stays the teacher's."""

    name: ClassVar[str] = "align_attention"

    def make_loss(self, context: RunContext, dataset: StepBatches) -> AttentionOutputLoss:
        batches = statistics_batches(context, dataset)
        mean_squares = attention_output_mean_squares(context.teacher, context.layer_map, batches)
        return AttentionOutputLoss(context.student, context.teacher, context.layer_map, mean_squares)

    def teacher_outputs(self, layer_map: LayerMap) -> list[str]:
        return [f"{kind}-{source}" for kind in ("attention_outputs", "hidden") for source in layer_map.teacher_layers]

    def select_trainable(self, student: InhibiDistilBertPreTrainedModel) -> None:
        student.requires_grad_(False)
        for layer in attention_layers(student):
            for module in (layer.query, layer.key, layer.value, layer.scalars):
                module.requires_grad_(True)


class AttentionOutputLoss:
    """Squared error of the attention outputs, every layer at once, each fed the teacher's own layer input.

    mean_squares: of the teacher's attention outputs, per student layer. Each layer's error is divided by it, so that
    layers weigh alike and a term reads as a relative error.
    """

    def __init__(
        self,
        student: InhibiDistilBertPreTrainedModel,
        teacher: Teacher,
        layer_map: LayerMap,
        mean_squares: Sequence[float],
    ) -> None:
        self.teacher, self.layer_map, self.mean_squares = teacher, layer_map, mean_squares
        self.layers = attention_layers(student)

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        target = self.teacher(batch, attention_outputs=True, hidden=True)
        valid = batch["attention_mask"].bool()
        mask = None if valid.all() else valid
        sources = self.layer_map.teacher_layers
        with record_attention_outputs(self.layers) as ours:
            for layer, source in zip(self.layers, sources, strict=True):
                layer.module(target.hidden[source], attention_mask=mask)
        terms = {}
        for i, source in enumerate(sources):
            error = squared_error(ours[i], target.attention_outputs[source], valid, count)
            terms[f"attention/layer_{i}"] = error / self.mean_squares[i]
        return terms


@torch.no_grad()
def attention_output_mean_squares(teacher: Teacher, layer_map: LayerMap, batches: Sequence[Batch]) -> list[float]:
    """Mean square of the teacher's attention outputs over the valid tokens, per student layer."""
    total = torch.zeros(len(layer_map))
    count = 0.0
    for batch in track(batches, "measuring the teacher's outputs"):
        outputs = teacher(batch, attention_outputs=True).attention_outputs
        valid = batch["attention_mask"].bool()
        count += float(valid.sum())
        for i, source in enumerate(layer_map.teacher_layers):
            total[i] += float(squared_error(outputs[source], torch.zeros_like(outputs[source]), valid, 1.0))
    return (total / count).tolist()


@torch.no_grad()
def attention_output_errors(
    student: InhibiDistilBertPreTrainedModel, teacher: Teacher, layer_map: LayerMap, batches: Sequence[Batch]
) -> list[float]:
    """Per student layer: Σ|student − teacher|² / Σ|teacher|² of the attention outputs over all valid tokens.

    Each layer is fed the teacher's own layer input, as in training.
    """
    mean_squares = attention_output_mean_squares(teacher, layer_map, batches)
    loss = AttentionOutputLoss(student.eval(), teacher, layer_map, mean_squares)
    count = float(sum(batch["attention_mask"].sum() for batch in batches))
    errors = [0.0] * len(layer_map)
    for batch in track(batches, "comparing attention outputs"):
        for layer, term in enumerate(loss(student, batch, count).values()):
            errors[layer] += float(term)
    return errors
