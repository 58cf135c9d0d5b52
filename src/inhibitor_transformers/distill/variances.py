"""How large a teacher's signals are, so that layers and dimensions weigh alike in a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.progress import counted
from ..models import LayerMap
from . import losses
from .teacher.teacher import Teacher

# A dimension, a first token or a mean that hardly varies would weigh without bound.
_LEAST_DIMENSION = 0.05  # of the mean variance of the layer's dimensions
_LEAST_VECTOR = 0.02  # of the layer's mean square

SCALE_BATCHES = 16  # from which the sizes of the teacher's signals are taken

Batches = list[dict[str, Tensor]]


@dataclass(frozen=True)
class HiddenVariances:
    """Variances of the teacher's hidden states over texts, per student layer.

    tokens: (dim,) for each layer, over all valid tokens. first: of the first token alone, mean over dimensions.
    text: of the mean over a text's tokens, in the last layer, mean over dimensions.
    """

    tokens: list[Tensor]
    first: list[float]
    text: float


def first_tokens(states: Tensor, valid: Tensor) -> Tensor:
    """(B, 1, dim): the state of each row's first valid token, wherever the padding is."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, valid.int().argmax(1)].unsqueeze(1)


def text_means(states: Tensor, valid: Tensor) -> Tensor:
    """(B, 1, dim): the mean over each row's valid tokens, which sentence embeddings are."""
    mask = valid.unsqueeze(-1)
    return states.float().masked_fill(~mask, 0.0).sum(1, keepdim=True) / mask.sum(1, keepdim=True)


@torch.no_grad()
def attention_output_mean_squares(teacher: Teacher, layer_map: LayerMap, batches: Batches) -> list[float]:
    """Mean square of the teacher's contexts over the valid tokens, per student layer."""
    total = torch.zeros(len(layer_map))
    count = 0.0
    for batch in counted(batches, "sizing the teacher's signals"):
        attention_outputs = teacher(batch, attention_outputs=True).attention_outputs
        valid = batch["attention_mask"].bool()
        count += float(valid.sum())
        for i, source in enumerate(layer_map.teacher_layers):
            total[i] += float(
                losses.squared_error(attention_outputs[source], torch.zeros_like(attention_outputs[source]), valid, 1.0)
            )
    return (total / count).tolist()


@torch.no_grad()
def hidden_variances(teacher: Teacher, layer_map: LayerMap, batches: Batches) -> HiddenVariances:
    """See `HiddenVariances`; the smallest variances are raised to a few hundredths of the usual."""
    tokens: list[list[Tensor]] = [[] for _ in layer_map.teacher_layers]
    first: list[list[Tensor]] = [[] for _ in layer_map.teacher_layers]
    texts: list[Tensor] = []
    for batch in counted(batches, "sizing the teacher's signals"):
        hidden = teacher(batch, hidden=True).hidden
        valid = batch["attention_mask"].bool()
        for i, source in enumerate(layer_map.teacher_layers):
            tokens[i].append(hidden[source + 1][valid].float())
            first[i].append(first_tokens(hidden[source + 1], valid)[:, 0].float())
        texts.append(text_means(hidden[layer_map.teacher_layers[-1] + 1], valid)[:, 0])
    variances = [torch.cat(states).var(0, correction=0) for states in tokens]
    squares = [torch.cat(states).square().mean() for states in tokens]
    alone = [torch.cat(states).var(0, correction=0).mean() for states in first]
    return HiddenVariances(
        [v + _LEAST_DIMENSION * v.mean() for v in variances],
        [float(v + _LEAST_VECTOR * s) for v, s in zip(alone, squares, strict=True)],
        float(torch.cat(texts).var(0, correction=0).mean() + _LEAST_VECTOR * squares[-1]),
    )
