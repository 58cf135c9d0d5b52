"""A model's score on a task's evaluation splits."""

from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..common.progress import progress
from ..models.segments import warn_of_lost_segments
from ..tasks import TaskData, compute_metrics, encode
from .task_labels import label_order

_ROWS_PER_BATCH = 64


@torch.no_grad()
def predict(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, encoded: Dataset) -> np.ndarray:
    """Logits (rows, labels) float32 of encoded examples, in their order; batches hold texts of similar length."""
    model.eval()
    inputs = encoded.remove_columns("labels")
    logits = np.empty((len(inputs), model.config.num_labels), dtype=np.float32)
    with progress("predicting", len(inputs), "rows") as advance:
        order = np.argsort([len(ids) for ids in inputs["input_ids"]], kind="stable")
        for start in range(0, len(order), _ROWS_PER_BATCH):
            rows = order[start : start + _ROWS_PER_BATCH]
            batch = tokenizer.pad(inputs[rows], return_tensors="pt").to(model.device)
            logits[rows] = model(**batch).logits.float().cpu().numpy()
            advance(len(rows))
    return logits


def score_task(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: TaskData, *, max_length: int
) -> dict[str, dict[str, float]]:
    """Every metric of the task on every evaluation split, e.g. {"validation": {"accuracy": 0.91}}.

    Raises ValueError for a model whose labels are not the task's; in another order they are found by their names.
    """
    scores, order = {}, label_order(model.config, data.task, model.name_or_path or type(model).__name__)
    if data.task.is_pair:
        warn_of_lost_segments(model.config, tokenizer, data.task.name)
    for split, dataset in data.evaluation.items():
        encoded = encode(dataset, tokenizer, data.task, max_length)
        logits = predict(model, tokenizer, encoded)[:, order]
        scores[split] = compute_metrics(data.task, logits, np.asarray(encoded["labels"]))
    return scores
