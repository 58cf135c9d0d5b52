"""What the alignment stages and fine-tuning want of Trainer alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from ...common.errors import ConfigError
from ...common.number_ranges import NOT_NEGATIVE, TRAINING, check_numbers
from ...common.settings import require, settle_numbers
from .allowed_settings import require_obeyed

_RANGES = TRAINING | {"scalar_learning_rate_factor": NOT_NEGATIVE}
_STRATEGIES = ("random", "sequential", "group_by_length", "batch_rebalance")  # Trainer takes any other for random

# What optimizers, schedules and reporters raise when they are made from settings that they cannot use.
_REFUSALS = (ValueError, TypeError, RuntimeError, ImportError)


@dataclass
class TrainerArguments(TrainingArguments):
    """TrainingArguments with other defaults, without those under which an interrupted run would go on differently.

    scalar_learning_rate_factor: learning rate of γ, δ, η, ρ over that of the weights.

    Raises ConfigError for a number out of its range, for a setting that nothing here would obey or that could not be
    resumed exactly (`trainer_settings`), and for an optimizer, a schedule or a reporter that cannot be made: Trainer
    makes them when the output folder is there already.
    """

    name: ClassVar[str] = ""  # of a stage, for messages
    obeys: ClassVar[frozenset[str]] = frozenset()  # settings of Trainer beside those that every training obeys

    warmup_steps: float = 0.1
    save_total_limit: int | None = 2
    remove_unused_columns: bool | None = False  # objectives read more than the model's forward names
    report_to: str | None = "none"
    disable_tqdm: bool | None = False  # None would hide the bar wherever logging is quiet
    dataloader_pin_memory: bool = False  # nothing to gain with batches this small, and a warning without a GPU
    scalar_learning_rate_factor: float = 1.0
    restore_callback_states_from_checkpoint: bool = True  # how long early stopping has waited already

    def __post_init__(self) -> None:
        prefix = f"{self.name}." if self.name else ""
        settle_numbers(self, prefix)
        check_numbers(self, _RANGES, prefix)
        require_obeyed(self, self.obeys, prefix)
        strategies, strategy = ", ".join(_STRATEGIES), self.train_sampling_strategy
        known = strategy in _STRATEGIES
        require(known, f"{prefix}train_sampling_strategy must be one of {strategies}, got {strategy!r}")
        super().__post_init__()
        self._require_optimizer(prefix)
        self._require_reporters(prefix)

    def _require_optimizer(self, prefix: str) -> None:
        try:
            optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(self)
            optimizer = optimizer_class([torch.nn.Parameter(torch.zeros(1))], **options)
        except _REFUSALS as error:
            raise ConfigError(f"{prefix}optim {self.optim.value}: {_one_line(error)}") from error
        try:
            get_scheduler(self.lr_scheduler_type, optimizer, 1, 10, scheduler_specific_kwargs=self.lr_scheduler_kwargs)
        except _REFUSALS as error:
            raise ConfigError(
                f"{prefix}lr_scheduler_type {self.lr_scheduler_type.value}: {_one_line(error)}"
            ) from error

    def _require_reporters(self, prefix: str) -> None:
        try:
            for callback in get_reporting_integration_callbacks(self.report_to):
                callback()
        except _REFUSALS as error:
            raise ConfigError(f"{prefix}report_to: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
