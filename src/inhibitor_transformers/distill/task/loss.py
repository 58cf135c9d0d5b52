"""What a task is trained on: its own loss and, with a teacher, soft targets and last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from .. import losses
from ..losses import Terms
from ..teacher.teacher import LOGITS, Teacher, model_inputs


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
        """Mean over a sequence's tokens, then the sum over sequences: a long one weighs no more than a short one."""
        mask = batch["attention_mask"].float()
        per_sequence = ((student.float() - teacher.float()).square().mean(-1) * mask).sum(-1) / mask.sum(-1)
        return per_sequence.sum() / count
