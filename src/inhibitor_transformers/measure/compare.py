"""Models side by side on one measure: a row of scores per model, with its speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from ..models.pretrained import load_pretrained, load_tokenizer
from ..tasks import TaskData
from .similarity import agreement, sts_spearman
from .task_score import score_task
from .throughput import sequences_per_second

Row = dict[str, dict[str, float]]
Rows = dict[str, Row]

SPEED_BATCH, SPEED_LENGTH = 8, 128


def by_task(sources: Mapping[str, str], data: TaskData, device: torch.device, max_length: int) -> Rows:
    """Task metrics of models with a classification head. Raises ValueError for a model without one."""
    models = _load(sources, AutoModelForSequenceClassification, device)
    rows = {
        name: score_task(model, load_tokenizer(sources[name]), data, max_length=max_length)
        for name, model in models.items()
    }
    return _with_speed(rows, models)


def by_zero_shot(
    sources: Mapping[str, str], pairs: Mapping[str, Sequence], device: torch.device, *, max_length: int
) -> Rows:
    """Spearman correlation of cosine similarities with the human scores of STS-B pairs, without training."""
    models = _load(sources, AutoModel, device)
    rows: Rows = {
        name: {"zero-shot": {"spearman": sts_spearman(m, load_tokenizer(sources[name]), pairs, max_length=max_length)}}
        for name, m in models.items()
    }
    return _with_speed(rows, models)


def by_agreement(
    sources: Mapping[str, str], texts: Sequence[str], lengths: Sequence[int], device: torch.device
) -> Rows:
    """Mean cosine between each model's sentence embeddings and those of the first model, per text length."""
    models = _load(sources, AutoModel, device)
    first = next(iter(sources))
    tokenizer = load_tokenizer(sources[first])
    rows: Rows = {}
    for name, model in models.items():
        if name != first:
            values = agreement(model, models[first], tokenizer, texts, lengths)
            rows[name] = {"mean cosine": {f"{length} tokens": value for length, value in values.items()}}
    return _with_speed(rows, models)


def _load(sources: Mapping[str, str], auto_class: type, device: torch.device) -> dict[str, PreTrainedModel]:
    return {name: load_pretrained(source, auto_class).to(device) for name, source in sources.items()}


def _with_speed(rows: Rows, models: Mapping[str, PreTrainedModel]) -> Rows:
    speeds = sequences_per_second(models, SPEED_BATCH, SPEED_LENGTH)
    key = f"sequences/s, {SPEED_BATCH} x {SPEED_LENGTH}"
    return {name: row | {"speed": {key: speeds[name]}} for name, row in rows.items()}
