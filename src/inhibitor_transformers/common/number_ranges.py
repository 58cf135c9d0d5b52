"""Ranges of numeric settings: numbers that would train nothing, or fail later in a library, are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple

from .settings import require


class Range(NamedTuple):
    """words: what a number "must …", for the message; allows: whether a finite number does."""

    words: str
    allows: Callable[[float], bool]


POSITIVE = Range("be positive", lambda x: x > 0)
NOT_NEGATIVE = Range("not be negative", lambda x: x >= 0)
FRACTION = Range("be from 0 to below 1", lambda x: 0 <= x < 1)
FRACTION_OR_ONE = Range("be from 0 to 1", lambda x: 0 <= x <= 1)
FINITE = Range("be a finite number", lambda _: True)
SEED = Range("be from 0 to 4294967295", lambda x: 0 <= x < 2**32)  # what NumPy takes
STEPS = Range("be positive (or -1: num_train_epochs decides)", lambda x: x > 0 or x == -1)

# Every number of TrainingArguments that a run of ours reads.
TRAINING = {
    **dict.fromkeys(
        (
            "num_train_epochs",
            "learning_rate",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "eval_accumulation_steps",
            "adam_epsilon",
            "neftune_noise_alpha",
            "torch_empty_cache_steps",
            "logging_steps",
            "eval_steps",
            "save_steps",
            "save_total_limit",
            "dataloader_prefetch_factor",
            "ddp_bucket_cap_mb",
            "ddp_timeout",
        ),
        POSITIVE,
    ),
    **dict.fromkeys(
        ("warmup_steps", "weight_decay", "max_grad_norm", "eval_delay", "dataloader_num_workers"), NOT_NEGATIVE
    ),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), FRACTION),
    **dict.fromkeys(("seed", "data_seed"), SEED),
    "max_steps": STEPS,
}


def check_number(name: str, value: Any, allowed: Range) -> None:
    """Raise ConfigError unless `value` is None or a finite number in the range."""
    if value is None:
        return
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    require(number and allowed.allows(value), f"{name} must {allowed.words}, got {value!r}")


def check_numbers(settings: object, ranges: Mapping[str, Range], prefix: str = "") -> None:
    """`check_number` for the attributes of `settings` that `ranges` names; `prefix` comes before their names."""
    for name, allowed in ranges.items():
        check_number(f"{prefix}{name}", getattr(settings, name), allowed)
