"""Stage "align_hidden": all layers of the student together give the teacher's hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...common.number_ranges import NOT_NEGATIVE, POSITIVE, check_numbers
from ...common.progress import track
from ...common.settings import require
from ...models import LayerMap
from ..losses import Terms, soft_target_divergence, squared_error
from ..pairing import Matched, Pairing
from .base import Batch, RunContext, TrainedStage, statistics_batches

# A dimension, a [CLS] or a pooled state that hardly varies would weigh without bound.
_LEAST_DIMENSION = 0.05  # of the mean variance of the layer's dimensions
_LEAST_VECTOR = 0.02  # of the layer's mean square


@dataclass
class AlignHidden(TrainedStage):
    """Trains the whole student but its embeddings.

    hidden_weight: of the hidden states of all layers. cls_weight: how many tokens more the first one weighs, which
    classifiers read; without effect where none do. pooled_weight: how many the mean over a sequence's tokens weighs in
    the last layer, which sentence embeddings are. logits_weight: of the divergence of the logits at every position
    (next tokens of a decoder, hidden tokens, classes) at `temperature`; of converted students only.
    """

    name: ClassVar[str] = "align_hidden"
    max_steps: int = 600
    learning_rate: float = 3e-4
    hidden_weight: float = 1.0
    cls_weight: float = 64.0
    pooled_weight: float = 0.0
    logits_weight: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        weights = ("hidden_weight", "cls_weight", "pooled_weight", "logits_weight")
        check_numbers(self, {"temperature": POSITIVE, **dict.fromkeys(weights, NOT_NEGATIVE)}, f"{self.name}.")
        learns = any(getattr(self, name) for name in weights)
        require(learns, f"one of {self.name}'s {', '.join(weights)} must be positive, or there is nothing to learn")
        super().__post_init__()

    def check_pairing(self, pairing: Pairing) -> None:
        kind = type(pairing.student).__name__
        if self.logits_weight and not pairing.has_logits:
            raise ValueError(
                f"{self.name}.logits_weight: {kind} is aligned without a head; use the stage masked_lm, or "
                "student_class: converted with a teacher that has one"
            )
        if self.pooled_weight and not pairing.is_encoder:
            raise ValueError(f"{self.name}.pooled_weight: {kind} is no encoder, whose sequences have a mean state")

    def make_loss(self, context: RunContext, dataset: Any) -> HiddenStateLoss:
        pairing = context.pairing
        variances = hidden_variances(pairing, statistics_batches(context, dataset))
        weights = HiddenWeights(
            self.hidden_weight,
            self.cls_weight if pairing.reads_first_token else 0.0,
            self.pooled_weight,
            self.logits_weight,
            self.temperature,
        )
        return HiddenStateLoss(pairing, variances, weights)

    def teacher_outputs(self, layer_map: LayerMap) -> list[str]:
        return [f"hidden-{source + 1}" for source in layer_map.teacher_layers]

    def select_trainable(self, pairing: Pairing) -> None:
        for parameter in pairing.embedding_parameters():
            parameter.requires_grad_(False)


class HiddenWeights(NamedTuple):
    """Of the terms of `HiddenStateLoss`, as in `AlignHidden`; temperature: of the logits."""

    hidden: float = 1.0
    cls: float = 0.0
    pooled: float = 0.0
    logits: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class HiddenVariances:
    """Variances of the teacher's hidden states over sequences, per layer.

    tokens: (dim,) for each layer, over all valid tokens. cls: of the first token alone, mean over dimensions.
    pooled: of the mean over a sequence's tokens, in the last layer, mean over dimensions.
    """

    tokens: list[Tensor]
    cls: list[float]
    pooled: float


class HiddenStateLoss(nn.Module):
    """Squared error of every layer's hidden states, and that of the first token once more, which classifiers read.

    Errors are divided by the teacher's variances: what is the same in all sequences is soon matched, and a mean square,
    of which it makes the most, would hide what is left. The first token adds `cls` tokens, and the mean over a
    sequence's tokens in the last layer, which sentence embeddings are, `pooled`; logits add T² · KL(teacher‖student).

    Where student and teacher differ in width, a linear projection of the student's states is trained along;
    it is not part of the student.
    """

    pairing: Pairing

    def __init__(self, pairing: Pairing, variances: HiddenVariances, weights: HiddenWeights | None = None) -> None:
        super().__init__()
        self.pairing, self.variances, self.weights = pairing, variances, weights or HiddenWeights()
        width, teacher_width = pairing.widths or (0, 0)
        self.projections = nn.ModuleList(
            nn.Linear(width, teacher_width) if width != teacher_width else nn.Identity() for _ in variances.tokens
        )

    def forward(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        """Terms "hidden/LAYER" and, where their weights are positive, "cls/LAYER", "pooled" and "logits"."""
        outputs, weights = self.pairing.outputs(batch), self.weights
        terms = {}
        for i, (label, states, theirs, valid) in enumerate(outputs.hidden):
            ours, unit = self.projections[i](states), self.variances.tokens[i].sqrt()
            counted = self.pairing.count(valid, batch, count)
            if weights.hidden > 0:
                error = squared_error(ours / unit, theirs / unit, valid, counted)
                terms[f"hidden/{label}"] = error * weights.hidden
            if weights.cls > 0:
                error = _vector_error(cls_states(ours, valid), cls_states(theirs, valid), counted)
                terms[f"cls/{label}"] = error * (weights.cls / self.variances.cls[i])
        if weights.pooled > 0:  # of the last layer
            error = _vector_error(pooled_states(ours, valid), pooled_states(theirs, valid), counted)
            terms["pooled"] = error * (weights.pooled / self.variances.pooled)
        if weights.logits > 0:
            terms["logits"] = self._logit_divergence(outputs.logits, batch, count) * weights.logits
        return terms

    def _logit_divergence(self, logits: Matched | None, batch: Mapping[str, Tensor], count: Tensor | float) -> Tensor:
        if logits is None:
            raise ValueError(f"logits_weight: {type(self.pairing.student).__name__} returns no logits")
        _, ours, theirs, valid = logits
        scaled = self.pairing.count(valid, batch, count)
        return soft_target_divergence(ours[valid], theirs[valid], self.weights.temperature, scaled)


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
def hidden_variances(pairing: Pairing, batches: Sequence[Batch]) -> HiddenVariances:
    """See `HiddenVariances`; the smallest variances are raised to a few hundredths of the usual."""
    tokens: dict[str, list[Tensor]] = {}
    cls: dict[str, list[Tensor]] = {}
    pooled: list[Tensor] = []
    for batch in track(batches, "measuring the teacher's outputs"):
        for label, states, valid in pairing.teacher_hidden_states(batch):
            tokens.setdefault(label, []).append(states[valid].float())
            cls.setdefault(label, []).append(cls_states(states, valid)[:, 0].float())
        pooled.append(pooled_states(states, valid)[:, 0])
    variances = [_variance(states) for states in tokens.values()]
    squares = [torch.cat(states).square().mean() for states in tokens.values()]
    return HiddenVariances(
        [v + _LEAST_DIMENSION * v.mean() for v in variances],
        [float(_variance(states).mean() + _LEAST_VECTOR * s) for states, s in zip(cls.values(), squares, strict=True)],
        float(_variance(pooled).mean() + _LEAST_VECTOR * squares[-1]),
    )


def _variance(states: list[Tensor]) -> Tensor:
    """(dim,): of the vectors of all batches, (M, dim) each."""
    return torch.cat(states).var(0, correction=0)
