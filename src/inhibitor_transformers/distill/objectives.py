"""What a student is trained on in each stage: from a batch to named loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models import InhibiDistilBertPreTrainedModel, LayerMap
from ..models.architectures import attention_layers, masked_lm_logits, record_attention_outputs
from . import losses
from .teacher.teacher import LOGITS, Teacher, model_inputs
from .variances import HiddenVariances, first_tokens, text_means

Terms = dict[str, Tensor]


class DistillationLoss(Protocol):
    """Weighted loss terms of one batch; their sum is the loss.

    `count` is the number of counted positions (labels other than −100) in the whole accumulated,
    distributed batch, of which `batch` may be a part.
    """

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms: ...


class AttentionOutputLoss:
    """Squared error of the contexts, every layer at once, each fed the teacher's own layer input.

    Each layer's error is divided by `scales[i]`, the teacher's mean squared context there, so that layers weigh alike
    and a term reads as a relative error.
    """

    def __init__(
        self, student: InhibiDistilBertPreTrainedModel, teacher: Teacher, layer_map: LayerMap, variances: list[float]
    ) -> None:
        self.teacher, self.layer_map, self.variances = teacher, layer_map, variances
        self.layers = attention_layers(student)

    @staticmethod
    def teacher_outputs(layer_map: LayerMap) -> list[str]:
        """What it asks of the teacher."""
        return [f"{kind}-{source}" for kind in ("attention_outputs", "hidden") for source in layer_map.teacher_layers]

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        teacher_outputs = self.teacher(batch, attention_outputs=True, hidden=True)
        valid = batch["attention_mask"].bool()
        mask = None if valid.all() else valid
        with record_attention_outputs(self.layers) as attention_outputs:
            for layer, source in zip(self.layers, self.layer_map.teacher_layers, strict=True):
                layer.module(teacher_outputs.hidden[source], attention_mask=mask)
        return {
            f"attention/layer_{i}": losses.squared_error(
                attention_outputs[i], teacher_outputs.attention_outputs[source], valid, count
            )
            / self.variances[i]
            for i, source in enumerate(self.layer_map.teacher_layers)
        }


class HiddenStateLoss(nn.Module):
    """Squared error of every layer's hidden states, and that of the first token once more, which classifiers read.

    Errors are divided by `variances`, the teacher's variances: what is the same in all texts is soon matched, and a mean
    square, of which it makes the most, would hide what is left. The first token adds `cls_weight` tokens, and
    the mean over a text's tokens in the last layer, which sentence embeddings are, `pooled_weight`.

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

    @staticmethod
    def teacher_outputs(layer_map: LayerMap) -> list[str]:
        """What it asks of the teacher."""
        return [f"hidden-{source + 1}" for source in layer_map.teacher_layers]

    def forward(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        hidden = model(**model_inputs(batch), output_hidden_states=True).hidden_states
        target = self.teacher(batch, hidden=True).hidden
        valid = batch["attention_mask"].bool()
        terms = {}
        for i, source in enumerate(self.layer_map.teacher_layers):
            ours, theirs = self.projections[i](hidden[i + 1]), target[source + 1]
            unit = self.variances.tokens[i].sqrt()
            terms[f"hidden/layer_{i}"] = losses.squared_error(ours / unit, theirs / unit, valid, count)
            if self.cls_weight > 0:
                error = _vector_error(first_tokens(ours, valid), first_tokens(theirs, valid), count)
                terms[f"first/layer_{i}"] = error * (self.cls_weight / self.variances.first[i])
        if self.pooled_weight > 0:  # of the last layer
            error = _vector_error(text_means(ours, valid), text_means(theirs, valid), count)
            terms["text"] = error * (self.pooled_weight / self.variances.text)
        return terms


def _vector_error(ours: Tensor, theirs: Tensor, count: Tensor | float) -> Tensor:
    """Squared error of one vector for each text, (B, 1, dim)."""
    return losses.squared_error(ours, theirs, torch.ones(ours.shape[:2], dtype=torch.bool, device=ours.device), count)


class MaskedLMLoss:
    """DistilBERT's triple loss at the masked positions: soft targets, masked LM, cosine of the last hidden states."""

    def __init__(
        self, teacher: Teacher, *, temperature: float, alpha_ce: float, alpha_mlm: float, alpha_cos: float
    ) -> None:
        self.teacher, self.temperature = teacher, temperature
        self.alpha_ce, self.alpha_mlm, self.alpha_cos = alpha_ce, alpha_mlm, alpha_cos

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        chosen = batch["labels"] != losses.IGNORED
        hidden = model.base_model(**model_inputs(batch)).last_hidden_state[chosen]  # the head runs at these only
        target, soft = self.teacher.at_positions(batch, chosen)
        logits = masked_lm_logits(model, hidden)
        return {
            "soft_targets": self.alpha_ce * losses.soft_target_divergence(logits, soft, self.temperature, count),
            "masked_lm": self.alpha_mlm * losses.cross_entropy(logits, batch["labels"][chosen], count),
            "cosine": self.alpha_cos * losses.cosine_distance(hidden, target, count),
        }


class TaskLoss:
    """A task's own loss and, with a teacher, its soft targets (and last hidden states).

    Where a batch carries `teacher_logits`, (B, classes), the teacher is asked for hidden states only.
    """

    def __init__(
        self,
        *,
        regression: bool,
        teacher: Teacher | None = None,
        alpha_task: float = 1.0,
        alpha_soft: float = 0.0,
        alpha_hidden: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        self.regression, self.teacher, self.temperature = regression, teacher, temperature
        self.alpha_task, self.alpha_soft, self.alpha_hidden = alpha_task, alpha_soft, alpha_hidden

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        wants_hidden = self.teacher is not None and self.alpha_hidden > 0
        output = model(**model_inputs(batch), output_hidden_states=wants_hidden)
        loss = losses.regression_error if self.regression else losses.cross_entropy
        terms = {"task": self.alpha_task * loss(output.logits, batch["labels"], count)}
        target = batch.get(LOGITS)
        if self.teacher is not None and (target is None or wants_hidden):
            teacher_outputs = self.teacher(batch, hidden=wants_hidden)
            target = teacher_outputs.logits if target is None else target
        if target is not None:
            terms["soft_targets"] = self.alpha_soft * self._soft(output.logits, target, count)
        if wants_hidden:
            terms["hidden"] = self.alpha_hidden * self._hidden(
                output.hidden_states[-1], teacher_outputs.hidden[-1], batch, count
            )
        return terms

    def _soft(self, logits: Tensor, target: Any, count: Tensor | float) -> Tensor:
        if self.regression:
            return losses.logit_error(logits, target, count)
        return losses.soft_target_divergence(logits, target, self.temperature, count)

    @staticmethod
    def _hidden(student: Tensor, teacher: Tensor, batch: Mapping[str, Tensor], count: Tensor | float) -> Tensor:
        """Mean over a text's tokens, then the sum over texts: a long text weighs no more than a short one."""
        mask = batch["attention_mask"].float()
        per_text = ((student.float() - teacher.float()).square().mean(-1) * mask).sum(-1) / mask.sum(-1)
        return per_text.sum() / count
