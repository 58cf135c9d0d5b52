"""How far a student's contexts are from its teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...common.progress import counted
from ...models import InhibiDistilBertPreTrainedModel, LayerMap
from ..objectives import AttentionOutputLoss
from ..teacher.teacher import Teacher
from ..variances import attention_output_mean_squares


@torch.no_grad()
def attention_output_errors(
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    layer_map: LayerMap,
    batches: Sequence[dict[str, Tensor]],
) -> list[float]:
    """Per student layer: Σ|student − teacher|² / Σ|teacher|² of the contexts over all valid tokens.

    Each layer is fed the teacher's own layer input, as in context alignment.
    """
    criterion = AttentionOutputLoss(
        student.eval(), teacher, layer_map, attention_output_mean_squares(teacher, layer_map, list(batches))
    )
    count = float(sum(batch["attention_mask"].sum() for batch in batches))
    totals = [0.0] * len(layer_map)
    for batch in counted(batches, "comparing contexts"):
        for layer, term in enumerate(criterion(student, batch, count).values()):
            totals[layer] += float(term)
    return totals
