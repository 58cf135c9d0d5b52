"""Distillation losses as pure functions of tensors, and what a training makes of them: named terms of one batch.

Each is a sum over the counted positions divided by `count`, which the caller takes over the whole
(accumulated, distributed) batch; so no loss depends on how a batch is split. All are computed in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..tasks.modalities import IGNORED

Terms = dict[str, Tensor]


class DistillationLoss(Protocol):
    """Weighted loss terms of one batch, scalars () each; their sum is the loss.

    `count` is the number of counted positions (labels other than −100) in the whole accumulated,
    distributed batch, of which `batch` may be a part.
    """

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms: ...


class TrainingStep(nn.Module):
    """Student and loss as one module that gives the loss terms of a batch.

    DistributedDataParallel exchanges the gradients of what its module's forward computes; losses call parts of
    the student, which the student's own forward would hide from it.
    """

    def __init__(self, student: PreTrainedModel, criterion: DistillationLoss) -> None:
        super().__init__()
        self.student, self.criterion = student, criterion

    def forward(self, batch: Mapping[str, Any], count: Tensor | float) -> Terms:
        """The loss terms of a batch, as `DistillationLoss` gives them."""
        return self.criterion(self.student, batch, count)


def squared_error(student: Tensor, teacher: Tensor, valid: Tensor, count: Tensor | float) -> Tensor:
    """Σ over valid positions of the mean squared difference, over `count`.

    student, teacher: (B, N, dim); valid: (B, N) bool.
    """
    # masked before it is squared, so that a NaN in padding reaches no gradient either
    difference = (student.float() - teacher.float()).masked_fill(~valid.unsqueeze(-1), 0.0)
    return difference.square().mean(-1).sum() / count


def soft_target_divergence(student: Tensor, teacher: Tensor, temperature: float, count: Tensor | float) -> Tensor:
    """T² · Σ KL(teacher‖student) of the distributions at temperature T, over `count` (Hinton et al., 2015).

    student, teacher: (M, classes) logits.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="sum", log_target=True) * temperature**2 / count


def logit_error(student: Tensor, teacher: Tensor, count: Tensor | float) -> Tensor:
    """Σ of the mean squared difference of logits (M, classes), over `count`; soft targets of a regression."""
    return (student.float() - teacher.float()).square().mean(-1).sum() / count


def cosine_distance(student: Tensor, teacher: Tensor, count: Tensor | float) -> Tensor:
    """Σ (1 − cos) of the vectors (M, dim), over `count`."""
    return (1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)).sum() / count


def cross_entropy(logits: Tensor, labels: Tensor, count: Tensor | float) -> Tensor:
    """Σ −log p(label) of logits (M, classes) and labels (M,) int64, over `count`; labels of −100 are left out."""
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum") / count


def regression_error(predictions: Tensor, labels: Tensor, count: Tensor | float) -> Tensor:
    """Σ (prediction − label)² of predictions (M, 1) and labels (M,), over `count`."""
    return F.mse_loss(predictions.float().squeeze(-1), labels.float(), reduction="sum") / count
