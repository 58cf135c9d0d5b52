"""Stage "align_hidden": all layers of the student together give the teacher's hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...common.number_ranges import NOT_NEGATIVE, check_numbers
from ...common.progress import track
from ...models import InhibiDistilBertPreTrainedModel, LayerMap
from ..data import StepBatches
from ..losses import Terms, squared_error
from ..teacher.teacher import Teacher, model_inputs
from .base import Batch, RunContext, TrainedStage, statistics_batches

# A dimension, a [CLS] or a pooled state that hardly varies would weigh without bound.
_LEAST_DIMENSION = 0.05  # of the mean variance of the layer's dimensions
_LEAST_VECTOR = 0.02  # of the layer's mean square


@dataclass
class AlignHidden(TrainedStage):
    """Trains the whole student but its embeddings.

    cls_weight: how many tokens more the first one weighs, which classifiers read. pooled_weight: how many the
    mean over a sequence's tokens weighs in the last layer, which sentence embeddings are.
    """

    name: ClassVar[str] = "align_hidden"
    max_steps: int = 600
    learning_rate: float = 3e-4
    cls_weight: float = 64.0
    pooled_weight: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("cls_weight", "pooled_weight"), NOT_NEGATIVE), f"{self.name}.")
        super().__post_init__()

    def make_loss(self, context: RunContext, dataset: StepBatches) -> HiddenStateLoss:
        variances = hidden_variances(context.teacher, context.layer_map, statistics_batches(context, dataset))
        models = (context.student, context.teacher, context.layer_map)
        return HiddenStateLoss(*models, variances, self.cls_weight, self.pooled_weight)

    def teacher_outputs(self, layer_map: LayerMap) -> list[str]:
        return [f"hidden-{source + 1}" for source in layer_map.teacher_layers]

    def select_trainable(self, student: InhibiDistilBertPreTrainedModel) -> None:
        # They are the teacher's to begin with: training could only move the many words that these texts lack.
        student.base_model.embeddings.requires_grad_(False)


@dataclass(frozen=True)
class HiddenVariances:
    """Variances of the teacher's hidden states over sequences, per student layer.

    tokens: (dim,) for each layer, over all valid tokens. cls: of the first token alone, mean over dimensions.
    pooled: of the mean over a sequence's tokens, in the last layer, mean over dimensions.
    """

    tokens: list[Tensor]
    cls: list[float]
    pooled: float


class HiddenStateLoss(nn.Module):
    """Squared error of every layer's hidden states, and that of the first token once more, which classifiers read.

    Errors are divided by the teacher's variances: what is the same in all sequences is soon matched, and a mean square,
    of which it makes the most, would hide what is left. The first token adds `cls_weight` tokens, and the mean over a
    sequence's tokens in the last layer, which sentence embeddings are, `pooled_weight`.

    Where student and teacher differ in width, a linear projection of the student's states is trained along;
    it is not part of the student.
    """

    teacher: Teacher

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Teacher,
        layer_map: LayerMap,
        variances: HiddenVariances,
        cls_weight: float = 0.0,
        pooled_weight: float = 0.0,
    ) -> None:
        super().__init__()
        object.__setattr__(self, "teacher", teacher)  # not a part of this module: never trained, never saved
        self.layer_map, self.variances = layer_map, variances
        self.cls_weight, self.pooled_weight = cls_weight, pooled_weight
        width, teacher_width = student.config.hidden_size, teacher.model.config.hidden_size
        self.projections = nn.ModuleList(
            nn.Linear(width, teacher_width) if width != teacher_width else nn.Identity()
            for _ in layer_map.teacher_layers
        )

    def forward(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        """Terms "hidden/layer_i" and, where their weights are positive, "cls/layer_i" and "pooled"."""
        hidden = model(**model_inputs(batch), output_hidden_states=True).hidden_states
        target = self.teacher(batch, hidden=True).hidden
        valid = batch["attention_mask"].bool()
        terms = {}
        for i, source in enumerate(self.layer_map.teacher_layers):
            ours, theirs = self.projections[i](hidden[i + 1]), target[source + 1]
            unit = self.variances.tokens[i].sqrt()
            terms[f"hidden/layer_{i}"] = squared_error(ours / unit, theirs / unit, valid, count)
            if self.cls_weight > 0:
                error = _vector_error(cls_states(ours, valid), cls_states(theirs, valid), count)
                terms[f"cls/layer_{i}"] = error * (self.cls_weight / self.variances.cls[i])
        if self.pooled_weight > 0:  # of the last layer
            error = _vector_error(pooled_states(ours, valid), pooled_states(theirs, valid), count)
            terms["pooled"] = error * (self.pooled_weight / self.variances.pooled)
        return terms


def _vector_error(ours: Tensor, theirs: Tensor, count: Tensor | float) -> Tensor:
    """Squared error of one vector for each sequence, (B, 1, dim)."""
    return squared_error(ours, theirs, torch.ones(ours.shape[:2], dtype=torch.bool, device=ours.device), count)


def cls_states(states: Tensor, valid: Tensor) -> Tensor:
    """(B, 1, dim): the state of each sequence's first valid token, wherever the padding is."""
    sequences = torch.arange(len(states), device=states.device)
    return states[sequences, valid.int().argmax(1)].unsqueeze(1)


def pooled_states(states: Tensor, valid: Tensor) -> Tensor:
    """(B, 1, dim): the mean over each sequence's valid tokens, which sentence embeddings are."""
    mask = valid.unsqueeze(-1)
    return states.float().masked_fill(~mask, 0.0).sum(1, keepdim=True) / mask.sum(1, keepdim=True)


@torch.no_grad()
def hidden_variances(teacher: Teacher, layer_map: LayerMap, batches: Sequence[Batch]) -> HiddenVariances:
    """See `HiddenVariances`; the smallest variances are raised to a few hundredths of the usual."""
    tokens: list[list[Tensor]] = [[] for _ in layer_map.teacher_layers]
    cls: list[list[Tensor]] = [[] for _ in layer_map.teacher_layers]
    pooled: list[Tensor] = []
    for batch in track(batches, "measuring the teacher's outputs"):
        hidden = teacher(batch, hidden=True).hidden
        valid = batch["attention_mask"].bool()
        for i, source in enumerate(layer_map.teacher_layers):
            tokens[i].append(hidden[source + 1][valid].float())
            cls[i].append(cls_states(hidden[source + 1], valid)[:, 0].float())
        pooled.append(pooled_states(hidden[layer_map.teacher_layers[-1] + 1], valid)[:, 0])
    variances = [_variance(states) for states in tokens]
    squares = [torch.cat(states).square().mean() for states in tokens]
    return HiddenVariances(
        [v + _LEAST_DIMENSION * v.mean() for v in variances],
        [float(_variance(states).mean() + _LEAST_VECTOR * s) for states, s in zip(cls, squares, strict=True)],
        float(_variance(pooled).mean() + _LEAST_VECTOR * squares[-1]),
    )


def _variance(states: list[Tensor]) -> Tensor:
    """(dim,): of the vectors of all batches, (M, dim) each."""
    return torch.cat(states).var(0, correction=0)
