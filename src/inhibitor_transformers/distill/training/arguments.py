"""What the alignment stages and fine-tuning want of Trainer alike."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from ...common.distributed import require_joined
from ...common.errors import ConfigError
from ...common.number_ranges import NOT_NEGATIVE, TRAINING, check_numbers
from ...common.processor import lacks_bfloat16
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
    resumed exactly (`allowed_settings`), and for an optimizer, a schedule or a reporter that cannot be made: Trainer
    makes them when the output folder is there already.
    """

    name: ClassVar[str] = ""  # of a stage, for messages
    obeys: ClassVar[frozenset[str]] = frozenset()  # settings of Trainer beside those that every training obeys

    warmup_steps: float = 0.1
    save_total_limit: int | None = 2
    remove_unused_columns: bool | None = False  # losses read more than the model's forward names
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


def require_counted_together(arguments: TrainingArguments, length_buckets: int) -> None:
    """Raise ValueError for settings under which the batches of one step would not be counted together."""
    require_joined(arguments.world_size)
    if arguments.n_gpu > 1:
        raise ValueError(
            f"one process for {arguments.n_gpu} GPUs: start one for each, with torchrun --nproc_per_node "
            f"{arguments.n_gpu}, or show it one GPU with CUDA_VISIBLE_DEVICES=0"
        )
    if arguments.world_size > 1:
        if not arguments.average_tokens_across_devices:
            raise ValueError("average_tokens_across_devices must be true: losses are means over all processes' tokens")
        if length_buckets > 1:
            raise ValueError("length_buckets must be 1 with several processes: they would not have equally many")
        if arguments.train_sampling_strategy == "group_by_length":
            raise ValueError("processes would draw different orders of group_by_length; draw them at random")


def warn_of_slow_bfloat16(arguments: TrainingArguments) -> None:
    """Warn where bf16 makes a training many times slower."""
    if arguments.bf16 and arguments.device.type == "cpu" and lacks_bfloat16():
        warnings.warn(
            "bf16: this processor has no instructions for bfloat16, so that its matrix products take many times "
            "as long as those of float32; leave bf16 out",
            stacklevel=3,
        )
