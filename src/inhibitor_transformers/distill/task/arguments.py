"""Settings of a fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, ClassVar

from ...common.number_ranges import FRACTION, NOT_NEGATIVE, POSITIVE, Range, check_number, check_numbers
from ...common.settings import require, settle_numbers
from ..training.allowed_settings import FINE_TUNING
from ..training.arguments import TrainerArguments

_LENGTH = Range("be at least 8 tokens", lambda x: x >= 8)
_RANGES = {
    **dict.fromkeys(
        ("temperature", "alignment_learning_rate", "length_buckets", "early_stopping_patience"),
        POSITIVE,
    ),
    **dict.fromkeys(
        ("alpha_task", "alpha_soft", "alpha_hidden", "alignment_epochs", "alignment_cls_weight"), NOT_NEGATIVE
    ),
    **dict.fromkeys(("selection_fraction", "attention_dropout"), FRACTION),
}
_SET_BY_THE_RUN = {"output_dir", "metric_for_best_model", "greater_is_better"}


@dataclass
class FinetuneArguments(TrainerArguments):
    """TrainingArguments with other defaults, and what distillation adds.

    max_length: a text, or a pair of texts, is truncated at so many tokens.
    alpha_task, alpha_soft, alpha_hidden: weights of the task's own loss, of the teacher's soft targets and of the
        last hidden states; the last two count with a teacher only.
    temperature: of the soft targets (a regression compares logits instead).
    alignment_epochs: passes over the training texts, before labels are seen, that match the hidden states of every
        layer to the teacher's (`align_with_task_teacher`). alignment_learning_rate: their peak rate.
        alignment_cls_weight: how many tokens more the first one ([CLS]) counts there.
    selection_fraction: fraction of the training examples that is held out to choose the best epoch by; 0 chooses by
        the first evaluation split, whose scores then are too good for unseen texts.
    attention_dropout: rate of attention dropout; None takes that of the model's config.
    length_buckets: a batch is computed in so many buckets of similar length, which saves padding and changes no
        gradient; None is 4 in a single process on a CPU and 1 elsewhere.
    teacher_cache: folder that keeps the teacher's logits for other runs; without it every run computes them once.
    early_stopping_patience: stop after so many epochs without a better score; None trains to the end.
    """

    obeys: ClassVar[frozenset[str]] = FINE_TUNING

    num_train_epochs: float = 3
    learning_rate: float = 1e-4
    lr_scheduler_type: str = "linear"
    weight_decay: float = 0.01
    per_device_train_batch_size: int = 32
    logging_steps: float = 50
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    load_best_model_at_end: bool = True
    max_length: int = 128
    alpha_task: float = 0.5
    alpha_soft: float = 0.5
    alpha_hidden: float = 0.0
    temperature: float = 2.0
    alignment_epochs: float = 0.0
    alignment_learning_rate: float = 2e-4
    alignment_cls_weight: float = 64.0
    selection_fraction: float = 0.0
    attention_dropout: float | None = None
    length_buckets: int | None = None
    teacher_cache: str | None = None
    early_stopping_patience: int | None = None

    def __post_init__(self) -> None:
        settle_numbers(self)
        check_number("max_length", self.max_length, _LENGTH)
        check_numbers(self, _RANGES)
        weights = {name: getattr(self, name) for name in ("alpha_task", "alpha_soft", "alpha_hidden")}
        require(any(weights.values()), f"one of {', '.join(weights)} must be positive, or there is nothing to learn")
        cache = self.teacher_cache
        require(
            cache is None or (isinstance(cache, str) and bool(cache)), f"teacher_cache must be a folder, got {cache!r}"
        )
        super().__post_init__()


def changed_settings(arguments: FinetuneArguments) -> dict[str, Any]:
    """The arguments that differ from their defaults, as YAML holds them."""
    # with the same device: made without, it would take the processes of this run apart
    defaults = FinetuneArguments(output_dir=arguments.output_dir, use_cpu=arguments.use_cpu)
    names = sorted({field.name for field in fields(arguments)} - _SET_BY_THE_RUN)
    given = {name: _as_plain(getattr(arguments, name)) for name in names}
    return {name: value for name, value in given.items() if value != _as_plain(getattr(defaults, name))}


def _as_plain(value: Any) -> Any:
    """A setting as numbers, texts, lists and mappings."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _as_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
