"""The model that is fine-tuned: an encoder with a classification head for the task."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ...common.progress import progress
from ...common.settings import require
from ...models.architectures import find_field
from ...models.loading import require_finite
from ...models.pretrained import SAFE_LOADING, load_config, loading, require_encoder
from ...tasks import Task
from ..training.checkpoints import require_trainable


@progress("loading a model")
def load_for_task(
    source: str, task: Task, attention_dropout: float | None = None, label_mean: float | None = None
) -> PreTrainedModel:
    """A model with a classification head for the task; a head that is not there is drawn at random.

    attention_dropout: instead of the rate in its config. label_mean: in the labels' units, where a new head of a
    regression begins; from 0 it would get there by moving all hidden states, for a bias moves a learning rate a step.

    Raises ValueError if it does not load, is quantized, or has weights that are NaN or infinite.
    """
    config = load_config(source)
    require_encoder(config, source)
    require_trainable(config, repr(source))
    fields = _head_fields(task)
    if attention_dropout is not None:
        name = find_field(config, "attention_dropout")
        require(name is not None, f"attention_dropout: a {config.model_type} has none")
        fields[str(name)] = attention_dropout
    try:
        with loading(source):
            model, info = AutoModelForSequenceClassification.from_pretrained(
                source, **fields, output_loading_info=True, **SAFE_LOADING
            )
    except ValueError as error:
        if isinstance(error.__cause__, RuntimeError):  # transformers has only a table of sizes to say
            raise ValueError(wrong_head(source, task)) from error.__cause__
        raise
    require_finite(model, repr(source))
    if label_mean is not None:
        _start_new_output_at(label_mean, model, info["missing_keys"])
    return model


def wrong_head(source: str, task: Task) -> str:
    """What to say of a model with a head for another number of labels."""
    return f"the head of {source!r} is not one of {task.num_labels} labels, as {task.name} has"


def _head_fields(task: Task) -> dict[str, Any]:
    """What the task says of its head, as fields of a model's config."""
    fields: dict[str, Any] = {"num_labels": task.num_labels, "problem_type": task.problem_type}
    if task.label_names:
        fields["id2label"] = dict(enumerate(task.label_names))
        fields["label2id"] = {name: i for i, name in enumerate(task.label_names)}
    return fields


def _start_new_output_at(value: float, model: PreTrainedModel, new: Collection[str]) -> None:
    """Set the bias of a single output, if it is among the `new` entries of the model's state."""
    for name, parameter in model.named_parameters():
        if name in new and name.endswith("bias") and parameter.shape == (1,):
            torch.nn.init.constant_(parameter, value)
