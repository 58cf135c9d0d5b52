"""What the alignment stages and fine-tuning want of Trainer alike."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import TrainingArguments

from .settings import ConfigError, require

_STRATEGIES = ("random", "sequential", "group_by_length", "batch_rebalance")  # Trainer takes any other for random
LARGEST_SEED = 2**32 - 1  # numpy's generators take no larger one

# What Trainer allows, but an interrupted run could not take up again where it was.
_NOT_RESUMABLE = {
    "save_only_model": "without the optimizer's state a run cannot go on from its checkpoints",
    "ignore_data_skip": "after an interruption some examples would be seen twice and others not at all",
    "auto_find_batch_size": "after a lack of memory it would start anew with weights that are trained already",
}


@dataclass
class TrainedArguments(TrainingArguments):
    """TrainingArguments with other defaults, without those under which an interrupted run would go on differently.

    scalar_learning_rate_factor: learning rate of γ, δ, η, ρ over that of the weights.
    """

    warmup_steps: float = 0.1
    save_total_limit: int | None = 2
    remove_unused_columns: bool | None = False  # objectives read more than the model's forward names
    report_to: str | None = "none"
    disable_tqdm: bool | None = False  # None would hide the bar wherever logging is quiet
    dataloader_pin_memory: bool = False  # nothing to gain with batches this small, and a warning without a GPU
    scalar_learning_rate_factor: float = 1.0
    restore_callback_states_from_checkpoint: bool = True  # how long early stopping has waited already

    def __post_init__(self) -> None:
        for name, reason in _NOT_RESUMABLE.items():
            require(not getattr(self, name), f"{name} cannot be used: {reason}")
        require(
            self.restore_callback_states_from_checkpoint,
            "restore_callback_states_from_checkpoint must be true, or early stopping would count anew",
        )
        require(self.dataloader_in_order, "dataloader_in_order must be true: the order would be another in every run")
        for name in ("seed", "data_seed"):
            require_seed(getattr(self, name), name)
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        workers = self.dataloader_num_workers
        require(workers >= 0, f"dataloader_num_workers must not be negative, got {workers}")
        strategies, strategy = ", ".join(_STRATEGIES), self.train_sampling_strategy
        require(strategy in _STRATEGIES, f"train_sampling_strategy must be one of {strategies}, got {strategy!r}")
        super().__post_init__()
        if not self.accelerator_config.use_seedable_sampler:
            raise ConfigError(
                "accelerator_config: use_seedable_sampler must be true, or a run that goes on from a checkpoint would "
                "draw another order"
            )


def require_seed(seed: int | None, name: str) -> None:
    """Raise ConfigError, naming the setting, unless it is None or a seed that every generator takes."""
    require(seed is None or 0 <= seed <= LARGEST_SEED, f"{name} must be from 0 to {LARGEST_SEED}, got {seed}")
