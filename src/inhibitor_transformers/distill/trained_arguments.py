"""What the alignment stages and fine-tuning want of Trainer alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from ..common.errors import ConfigError
from .number_ranges import NOT_NEGATIVE, TRAINING, check_numbers
from .settings import require

_RANGES = TRAINING | {"scalar_learning_rate_factor": NOT_NEGATIVE}
_STRATEGIES = ("random", "sequential", "group_by_length", "batch_rebalance")  # Trainer takes any other for random

# What Trainer allows, but an interrupted run could not take up again where it was.
_NOT_RESUMABLE = {
    "save_only_model": "without the optimizer's state a run cannot go on from its checkpoints",
    "ignore_data_skip": "after an interruption some examples would be seen twice and others not at all",
    "auto_find_batch_size": "after a lack of memory it would start anew with weights that are trained already",
}
_NEEDED_TO_RESUME = {
    "restore_callback_states_from_checkpoint": "early stopping would count anew",
    "dataloader_in_order": "the order would be another in every run",
}
# What optimizers, schedules and reporters raise when they are made from settings that they cannot use.
_REFUSALS = (ValueError, TypeError, RuntimeError, ImportError)


@dataclass
class TrainedArguments(TrainingArguments):
    """TrainingArguments with other defaults, without those under which an interrupted run would go on differently.

    scalar_learning_rate_factor: learning rate of γ, δ, η, ρ over that of the weights.

    Raises ConfigError for a number out of its range, for a setting that nothing here would obey or that could not be
    resumed exactly, and for an optimizer, a schedule or a reporter that cannot be made: Trainer makes them when the
    output folder is there already.
    """

    name: ClassVar[str] = ""  # of a stage, for messages

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
        check_numbers(self, _RANGES, prefix)
        smoothing = self.label_smoothing_factor
        require(smoothing == 0, f"{prefix}label_smoothing_factor is not computed here, got {smoothing!r}; leave it out")
        strategies, strategy = ", ".join(_STRATEGIES), self.train_sampling_strategy
        known = strategy in _STRATEGIES
        require(known, f"{prefix}train_sampling_strategy must be one of {strategies}, got {strategy!r}")
        self._require_resumable(prefix)
        super().__post_init__()
        seedable = self.accelerator_config.use_seedable_sampler
        require(
            seedable, f"{prefix}accelerator_config: use_seedable_sampler must be true, or a resume draws another order"
        )
        self._require_optimizer(prefix)
        self._require_reporters(prefix)

    def _require_resumable(self, prefix: str) -> None:
        for name, reason in _NOT_RESUMABLE.items():
            require(not getattr(self, name), f"{prefix}{name} cannot be used: {reason}")
        for name, reason in _NEEDED_TO_RESUME.items():
            require(getattr(self, name), f"{prefix}{name} must be true, or {reason}")

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
