"""The model that is fine-tuned: its head."""

from __future__ import annotations

import pytest
import torch
from transformers import BertForSequenceClassification, DistilBertForSequenceClassification

from inhibitor_transformers.distill.task.model import load_for_task
from tests.distill.fine_tuning import custom, ratings
from tests.distill.tiny import bert, distilbert, saved


@pytest.mark.parametrize(
    ("model", "classifier"),
    [(bert, BertForSequenceClassification), (distilbert, DistilBertForSequenceClassification)],
)
def test_only_a_new_head_begins_there(model, classifier, tmp_path):
    task = custom(tmp_path / "data", ratings(20), ratings(20, seed=1)).task
    new = load_for_task(saved(model(), tmp_path / "encoder"), task, label_mean=2.5)
    trained = model(classifier, num_labels=1)
    torch.nn.init.constant_(trained.classifier.bias, 0.5)
    kept = load_for_task(saved(trained, tmp_path / "classifier"), task, label_mean=2.5)
    assert (new.classifier.bias.item(), kept.classifier.bias.item()) == (2.5, 0.5)
