"""Accuracy of images, recordings and hidden tokens."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.evaluation.accuracy import accuracy
from inhibitor_transformers.tasks.modalities import IGNORED
from tests.evaluation.heads import bert, vit


@torch.no_grad()
def test_of_classes() -> None:
    model, pixels = vit(), torch.randn(10, 3, 8, 8)
    predicted = torch.stack([model(image[None]).logits[0].argmax() for image in pixels])
    labels = torch.where(torch.arange(10) < 7, predicted, (predicted + 1) % 3)
    batches = [{"pixel_values": pixels[i : i + 4], "labels": labels[i : i + 4]} for i in (0, 4, 8)]
    assert accuracy(model, batches) == 0.7


@torch.no_grad()
def test_of_hidden_tokens_leaves_out_the_others() -> None:
    model, ids = bert(), torch.randint(5, 16, (2, 6))
    mask = torch.ones_like(ids)
    predicted = model(input_ids=ids, attention_mask=mask).logits.argmax(-1)
    labels = torch.full_like(ids, IGNORED)
    labels[0, 1:4], labels[1, 2] = predicted[0, 1:4], (predicted[1, 2] + 1) % 16
    assert accuracy(model, [{"input_ids": ids, "attention_mask": mask, "labels": labels}]) == 0.75


def test_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing is labeled"):
        accuracy(vit(), [])
