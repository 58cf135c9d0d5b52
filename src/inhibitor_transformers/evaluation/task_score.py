"""A model's score on a task's evaluation splits, and whether its outputs are the task's labels at all."""

from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..common.progress import progress
from ..models.compatibility import find_order, label_names, warn_of_lost_segments
from ..tasks import Task, TaskData, compute_metrics, encode

_BATCH = 64


@torch.no_grad()
def predict(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, encoded: Dataset) -> np.ndarray:
    """Logits (examples, labels) float32, in the order of `encoded`; batches hold examples of similar length."""
    model.eval()
    inputs = encoded.remove_columns("labels")
    logits = np.empty((len(inputs), model.config.num_labels), dtype=np.float32)
    with progress("predicting", len(inputs), "examples") as advance:
        order = np.argsort([len(ids) for ids in inputs["input_ids"]], kind="stable")
        for start in range(0, len(order), _BATCH):
            members = order[start : start + _BATCH]
            batch = tokenizer.pad(inputs[members], return_tensors="pt").to(model.device)
            logits[members] = model(**batch).logits.float().cpu().numpy()
            advance(len(members))
    return logits


def score_task(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: TaskData, *, max_length: int
) -> dict[str, dict[str, float]]:
    """Every metric of the task on every evaluation split, e.g. {"validation": {"accuracy": 0.91}}.

    Raises ValueError for a model whose labels are not the task's; they are matched by name.
    """
    scores, order = {}, label_order(model.config, data.task, model.name_or_path or type(model).__name__)
    if data.task.is_pair:
        warn_of_lost_segments(model.config, tokenizer, data.task.name)
    for split, dataset in data.evaluation.items():
        encoded = encode(dataset, tokenizer, data.task, max_length)
        logits = predict(model, tokenizer, encoded)[:, order]
        scores[split] = compute_metrics(data.task, logits, np.asarray(encoded["labels"]))
    return scores


def label_order(config: PretrainedConfig, task: Task, source: str) -> list[int]:
    """Index of each task label among the model's outputs.

    Labels are matched by name where the model names them. Outputs called LABEL_0, LABEL_1, … are taken in order, and
    so are "0", "1", … of a built-in task. Raises ValueError for other names, another number of
    labels, and a classifier for a regression or the other way round. `source` names the model.
    """
    count, kind = config.num_labels, getattr(config, "problem_type", None)
    if count != task.num_labels:
        raise ValueError(f"{source} has {count} labels, {task.name} has {task.num_labels}")
    if kind not in (None, task.problem_type):
        raise ValueError(f"{source} was made for {kind}, {task.name} is a {task.problem_type}")
    names, unchanged = label_names(config), list(range(count))
    if names is None or task.is_regression or (task.hub_id and names == [str(i) for i in unchanged]):
        return unchanged
    order = find_order(task.label_names, names)
    if order is None:
        raise ValueError(
            f"{source} tells {', '.join(names)} apart, {task.name} {', '.join(task.label_names)}: it was made for "
            "other labels, or calls them otherwise (then give its config.json the task's names, as id2label)"
        )
    return order


def is_in_task_order(order: list[int]) -> bool:
    """Whether the model's outputs are in the task's order."""
    return order == sorted(order)
