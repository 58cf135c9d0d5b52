"""Fractions of labels that a model's largest logit hits: hidden tokens, images, recordings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..tasks.modalities import IGNORED


@torch.no_grad()
def accuracy(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> float:
    """Of all labels other than −100, the fraction that `argmax` of the logits equals.

    batches: a model's inputs, and `labels`: (B,) for images and recordings, (B, N) for the hidden tokens of a masked
    language model; logits have one dimension more. Raises ValueError if nothing is labeled.
    """
    model.eval()
    right, count = 0, 0
    for batch in batches:
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}
        predicted = model(**inputs).logits.argmax(-1).to(batch["labels"].device)
        counted = batch["labels"] != IGNORED
        right += int(((predicted == batch["labels"]) & counted).sum())
        count += int(counted.sum())
    if count == 0:
        raise ValueError("nothing is labeled, so there is no accuracy")
    return right / count
