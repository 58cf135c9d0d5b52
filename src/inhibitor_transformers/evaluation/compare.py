"""Compares models on one measure: a row of scores per model, with its speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from ..common.progress import Log, track
from ..models.architectures import max_tokens, require_positions
from ..models.compatibility import require_same_tokenizer
from ..models.pretrained import load_as_saved, load_pretrained, load_tokenizer
from ..tasks import TaskData
from ..tasks.modalities import draw, in_batches, load_packed_text, load_preprocessor
from .causal_lm import next_token_agreement
from .head_score import head_of, score_head
from .similarity import agreement, sts_spearman
from .task_score import is_in_task_order, label_order, score_task
from .throughput import sequences_per_second

Row = dict[str, dict[str, float]]
Rows = dict[str, Row]

SPEED_BATCH, SPEED_LENGTH = 8, 128


def by_task(
    sources: Mapping[str, str],
    data: TaskData,
    device: torch.device,
    max_length: int,
    log: Log = print,
) -> Rows:
    """Score models with a classification head on a task; `log` gets a line for each with another order of labels.

    Raises ValueError, before anything is scored, for a model without a head and for one of other labels.
    """
    models = _load(sources, AutoModelForSequenceClassification, device, max_length)
    for name, model in models.items():
        order = label_order(model.config, data.task, repr(name))
        if not is_in_task_order(order):
            by_name = ", ".join(
                f"{label} is its output {i}" for label, i in zip(data.task.label_names, order, strict=True)
            )
            log(f"{name!r} orders its labels differently from {data.task.name}; they are matched by name: {by_name}")
    rows = {
        name: score_task(model, load_tokenizer(sources[name]), data, max_length=max_length)
        for name, model in track(models.items(), "models")
    }
    return _add_speed(rows, models)


def by_zero_shot(
    sources: Mapping[str, str], pairs: Mapping[str, Sequence], device: torch.device, *, max_length: int
) -> Rows:
    """Correlate cosine similarities with human scores of STS-B pairs (Spearman), without training."""
    models = _load(sources, AutoModel, device, max_length)
    rows: Rows = {
        name: {"zero-shot": {"spearman": sts_spearman(m, load_tokenizer(sources[name]), pairs, max_length=max_length)}}
        for name, m in track(models.items(), "models")
    }
    return _add_speed(rows, models)


def by_agreement(
    sources: Mapping[str, str], texts: Sequence[str], lengths: Sequence[int], device: torch.device
) -> Rows:
    """Mean cosine between each model's sentence embeddings and those of the first model, per text length.

    Raises ValueError for a model of another tokenizer or width than the first.
    """
    models = _load(sources, AutoModel, device, max(lengths))
    first = next(iter(sources))
    tokenizer, width = load_tokenizer(sources[first]), models[first].config.hidden_size
    rows: Rows = {}
    for name, model in track(models.items(), "models"):
        require_same_tokenizer(load_tokenizer(sources[name]), tokenizer)
        if model.config.hidden_size != width:
            raise ValueError(f"embeddings of {name!r} have {model.config.hidden_size} numbers, of {first!r} {width}")
        values = agreement(model, models[first], tokenizer, texts, lengths)
        rows[name] = {"mean cosine": {f"{length} tokens": value for length, value in values.items()}}
    return _add_speed(rows, models)


def by_head(
    sources: Mapping[str, str],
    data: str | Path,
    device: torch.device,
    *,
    split: str,
    length: int,
    max_examples: int | None = None,
    seed: int = 0,
) -> Rows:
    """Measure what each model's own head is for, on a split of texts, images or recordings (`score_head`)."""
    rows: Rows = {}
    for name, source in track(sources.items(), "models"):
        model = load_as_saved(source, encoder=False).to(device)
        measure = score_head(
            model,
            load_preprocessor(source),
            data,
            split=split,
            length=length,
            max_examples=max_examples,
            seed=seed,
        )
        rows[name] = {split: {measure.name: measure.value}}
    return rows


def by_next_tokens(
    sources: Mapping[str, str],
    data: str | Path,
    device: torch.device,
    *,
    split: str,
    length: int,
    new_tokens: int,
    max_examples: int,
    seed: int = 0,
) -> Rows:
    """How often each decoder ranks first what the first model writes, fed the same text (`next_token_agreement`).

    The first model continues `max_examples` texts of `length` tokens. Raises ValueError for a model of another
    tokenizer, or one that cannot read so many tokens.
    """
    models = {name: load_as_saved(source, encoder=False).to(device) for name, source in sources.items()}
    first = next(iter(sources))
    tokenizer = load_tokenizer(sources[first], pad_with_end=True)
    for name, model in models.items():
        if head_of(model) != "causal":
            raise ValueError(f"{name!r} is a {type(model).__name__}, which writes no text")
        require_same_tokenizer(load_tokenizer(sources[name], pad_with_end=True), tokenizer)
        require_positions(model.config, length + new_tokens, name)
    prompts = draw(load_packed_text(data, tokenizer, length=length, split=split), max_examples, seed=seed)
    rows: Rows = {}
    for name, model in track(models.items(), "models"):
        batches = in_batches(prompts, SPEED_BATCH, "comparing next tokens")
        agreed = next_token_agreement(model, models[first], batches, new_tokens=new_tokens)
        rows[name] = {"next tokens": {f"agreement, {new_tokens} tokens": agreed}}
    return rows


def _load(
    sources: Mapping[str, str], auto_class: type, device: torch.device, max_length: int
) -> dict[str, PreTrainedModel]:
    models = {name: load_pretrained(source, auto_class).to(device) for name, source in sources.items()}
    for name, model in models.items():
        require_positions(model.config, max_length, name)
    return models


def _add_speed(rows: Rows, models: Mapping[str, PreTrainedModel]) -> Rows:
    length = min(SPEED_LENGTH, *(max_tokens(m.config) or SPEED_LENGTH for m in models.values()))
    speeds = sequences_per_second(models, SPEED_BATCH, length)
    key = f"sequences/s, {SPEED_BATCH} x {length}"
    return {name: row | {"speed": {key: speeds[name]}} for name, row in rows.items()}
