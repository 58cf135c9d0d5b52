"""How far a student's contexts are from its teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..common.progress import counted
from ..models import InhibiDistilBertPreTrainedModel, LayerPlan
from .objectives import ContextObjective
from .scales import context_scales
from .teacher import Teacher


@torch.no_grad()
def context_errors(
    student: InhibiDistilBertPreTrainedModel, teacher: Teacher, plan: LayerPlan, batches: Sequence[dict[str, Tensor]]
) -> list[float]:
    """Per student layer: Σ|student − teacher|² / Σ|teacher|² of the contexts over all valid tokens.

    Each layer is fed the teacher's own layer input, as in context alignment.
    """
    objective = ContextObjective(student.eval(), teacher, plan, context_scales(teacher, plan, list(batches)))
    count = float(sum(batch["attention_mask"].sum() for batch in batches))
    totals = [0.0] * len(plan)
    for batch in counted(batches, "comparing contexts"):
        for layer, term in enumerate(objective(student, batch, count).values()):
            totals[layer] += float(term)
    return totals
