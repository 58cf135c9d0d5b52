"""Whether the rows of a study fit its tasks and their teachers, found out before the first of many fine-tunings."""

from __future__ import annotations

from pathlib import Path

from ..common.settings import ConfigError, require
from ..distill.task.data import require_usable
from ..distill.task.model import wrong_head
from ..distill.training.checkpoints import require_trainable
from ..models.architectures import require_positions
from ..models.compatibility import require_same_tokenizer
from ..models.pretrained import load_config, load_tokenizer, require_encoder
from ..tasks import TaskData
from .config import StudyConfig


def require_fitting(config: StudyConfig, data: dict[str, TaskData]) -> None:
    """Raise ValueError for a row that could not be trained on one of the tasks, naming both.

    data: the examples by task.
    """
    for name, row in config.rows.items():
        for task, examples in data.items():
            try:
                _require_fitting(config, name, task, examples)
            except ValueError as error:
                raise ConfigError(f"models: {name} on {task}: {error}") from error
        if row.teacher:
            ours, theirs = load_tokenizer(row.model), load_tokenizer(config.rows[row.teacher].model)
            try:
                require_same_tokenizer(ours, theirs)
            except ValueError as error:
                raise ConfigError(f"models: {name} and its teacher {row.teacher}: {error}") from error


def _require_fitting(config: StudyConfig, name: str, task: str, data: TaskData) -> None:
    source = config.rows[name].model
    arguments = config.arguments(task, name, config.grid(name)[0], config.seeds[0], Path("unused"))
    require_usable(data, arguments)
    model = load_config(source)
    require_encoder(model, source)
    require_trainable(model, repr(source))
    require_positions(model, arguments.max_length, "max_length")
    saved_by = model.architectures if isinstance(model.architectures, list) else []
    has_head = any(str(name).endswith("ForSequenceClassification") for name in saved_by)
    require(
        not has_head or model.num_labels == data.task.num_labels,
        wrong_head(source, data.task),
    )
