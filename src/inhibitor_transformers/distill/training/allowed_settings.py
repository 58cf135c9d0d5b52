"""Which settings of Trainer a run obeys: every other one has to stay as it is, or it would be ignored or fail late."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from transformers import TrainingArguments

from ...common.settings import close_match, require

# What every training here obeys.
_TRAINING = frozenset(
    [
        "output_dir",
        "num_train_epochs",
        "max_steps",
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
        "optim",
        "optim_args",
        "weight_decay",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "max_grad_norm",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "average_tokens_across_devices",
        "bf16",
        "fp16",
        "tf32",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "torch_empty_cache_steps",
        "full_determinism",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "logging_nan_inf_filter",
        "disable_tqdm",
        "report_to",
        "run_name",
        "project",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "seed",
        "data_seed",
        "use_cpu",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "train_sampling_strategy",
        "ddp_find_unused_parameters",
        "ddp_bucket_cap_mb",
        "ddp_broadcast_buffers",
        "ddp_timeout",
    ]
)
# What needs scores, labels, or a data set of single examples.
FINE_TUNING = frozenset(
    [
        "eval_strategy",
        "eval_steps",
        "eval_delay",
        "eval_on_start",
        "eval_accumulation_steps",
        "per_device_eval_batch_size",
        "load_best_model_at_end",
        "dataloader_drop_last",
        "neftune_noise_alpha",
    ]
)
# Trainer allows these, but an interrupted run could not take up again where it was.
_NOT_RESUMABLE = {
    "save_only_model": "without the optimizer's state a run cannot go on from its checkpoints",
    "ignore_data_skip": "after an interruption some examples would be seen twice and others not at all",
    "auto_find_batch_size": "after a lack of memory it would start anew with weights that are trained already",
    "accelerator_config": "with other samplers or loaders than its own a resume draws another order",
}
_NEEDED_TO_RESUME = {
    "restore_callback_states_from_checkpoint": "early stopping would count anew",
    "dataloader_in_order": "the order would be another in every run",
}
_DECIDED = {
    "metric_for_best_model": "the task's main metric decides",
    "greater_is_better": "the task's main metric decides",
    "resume_from_checkpoint": "--resume goes on with the last whole checkpoint",
    "label_smoothing_factor": "it is not computed here",
}
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs"),
        (lambda given: given is None or isinstance(given, dict), "a mapping"),
    ),
    **dict.fromkeys(
        ("optim_args", "run_name", "output_dir"), (lambda given: given is None or isinstance(given, str), "a text")
    ),
    **dict.fromkeys(("optim", "lr_scheduler_type", "project"), (lambda given: isinstance(given, str), "a text")),
    "report_to": (
        lambda given: (
            given is None
            or isinstance(given, str)
            or (isinstance(given, list) and all(isinstance(name, str) for name in given))
        ),
        "a name or a list of names",
    ),
}


def require_obeyed(settings: TrainingArguments, also: frozenset[str], prefix: str) -> None:
    """Raise ConfigError for a setting of Trainer that a run would not obey, or that is of another kind.

    Before Trainer's own checks, which change some of them.

    also: what this kind of training obeys beside what all do. prefix: of names in messages.
    """
    kind, obeyed = type(settings), _TRAINING | also
    for field in dataclasses.fields(TrainingArguments):
        name, given = field.name, getattr(settings, field.name)
        if name in _NEEDED_TO_RESUME:
            require(given is True, f"{prefix}{name} must be true, or {_NEEDED_TO_RESUME[name]}")
        elif name not in obeyed:
            why = _NOT_RESUMABLE.get(name) or _DECIDED.get(name) or "nothing here would obey it"
            require(given == _default(kind, name), f"{prefix}{name} cannot be used: {why}, got {given!r}")
        elif name in _KINDS:
            fits, words = _KINDS[name]
            require(fits(given), f"{prefix}{name} must be {words}, got {given!r}")
    _require_together(settings, prefix)


def _require_together(settings: TrainingArguments, prefix: str) -> None:
    """What Trainer finds out only when it begins."""
    known = {"use_reentrant"}
    for name in settings.gradient_checkpointing_kwargs or {}:
        require(name in known, f"{prefix}gradient_checkpointing_kwargs has no {name!r}{close_match(name, known)}")
    require(
        not settings.dataloader_persistent_workers or settings.dataloader_num_workers > 0,
        f"{prefix}dataloader_persistent_workers needs dataloader_num_workers above 0",
    )
    require(not (settings.fp16 and settings.use_cpu), f"{prefix}fp16 needs a GPU; on a CPU leave it out, or take bf16")


def _default(kind: type[Any], name: str) -> Any:
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
