"""Settings of a fine-tuning: what is refused before anything runs."""

from __future__ import annotations

import pytest

from inhibitor_transformers.common.settings import ConfigError, build
from inhibitor_transformers.distill.task.arguments import FinetuneArguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 4}, "max_length must be at least 8 tokens, got 4"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"alpha_soft": -0.1}, "alpha_soft must not be negative, got -0.1"),
        ({"learning_rat": 1e-4}, r"fine-tuning has no setting 'learning_rat' \(did you mean 'learning_rate'\?\)"),
        ({"num_train_epochs": "many"}, "num_train_epochs must be a number, got 'many'"),
    ],
)
def test_fine_tuning_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(FinetuneArguments, {"output_dir": "out"} | settings, where="fine-tuning")


WRONG_NUMBERS = [
    ("num_train_epochs", 0),
    ("num_train_epochs", -1),
    ("learning_rate", 0.0),
    ("learning_rate", -1e-4),
    ("per_device_train_batch_size", 0),
    ("per_device_eval_batch_size", -2),
    ("gradient_accumulation_steps", 0),
    ("max_steps", 0),
    ("max_steps", -5),
    ("warmup_steps", -1),
    ("weight_decay", -0.1),
    ("adam_beta1", 1.0),
    ("adam_epsilon", 0.0),
    ("max_grad_norm", -1.0),
    ("logging_steps", 0),
    ("eval_steps", 0),
    ("save_steps", -1),
    ("save_total_limit", 0),
    ("eval_delay", -1),
    ("seed", -1),
    ("seed", 2**32),
    ("data_seed", -1),
    ("dataloader_num_workers", -1),
    ("label_smoothing_factor", 0.1),
    ("scalar_learning_rate_factor", -1.0),
    ("alpha_hidden", -1.0),
    ("temperature", -2.0),
    ("alignment_epochs", -1),
    ("alignment_learning_rate", 0.0),
    ("alignment_cls_weight", -1.0),
    ("selection_fraction", 1.0),
    ("attention_dropout", 1.0),
    ("length_buckets", 0),
    ("early_stopping_patience", 0),
]


@pytest.mark.parametrize(("name", "value"), WRONG_NUMBERS)
def test_numbers_of_fine_tuning_that_would_train_nothing(name, value):
    """Some saved an untrained model, others ended late in an error of another library."""
    with pytest.raises(ConfigError, match=rf"^{name} .*, got {value}"):
        build(FinetuneArguments, {"output_dir": "out", name: value}, where="fine-tuning")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", sorted({name for name, _ in WRONG_NUMBERS} - {"label_smoothing_factor"}))
def test_numbers_that_are_none(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must .*, got -?(nan|inf)$"):
        FinetuneArguments(output_dir="out", **{name: value})


def test_weights_of_a_loss_that_are_all_zero():
    with pytest.raises(ConfigError, match="one of alpha_task, alpha_soft, alpha_hidden must be positive"):
        FinetuneArguments(output_dir="out", alpha_task=0.0, alpha_soft=0.0)
