"""What Trainer could not use is refused when the settings are made, not when the output folder is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.distill.task.arguments import FinetuneArguments
from inhibitor_transformers.distill.training.arguments import TrainerArguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"report_to": "nope"}, "report_to: nope is not supported"),
        ({"report_to": "comet_ml"}, "report_to: CometCallback requires"),
        ({"optim": "lomo"}, "optim lomo: You need to install"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type cosine_with_min_lr: One of min_lr"),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"power": 2}}, "lr_scheduler_type linear: .*power"),
    ],
)
@pytest.mark.parametrize("kind", [TrainerArguments, FinetuneArguments])
def test_it_is_named(kind: type[Any], settings: dict[str, Any], message: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)
    assert not (tmp_path / "out").exists()


def test_what_trainer_can_use(tmp_path: Any) -> None:
    settings = {"report_to": "none", "optim": "sgd", "lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {}}
    TrainerArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"log_level": "foo"},
        {"prediction_loss_only": True},
        {"label_names": ["foo"]},
        {"use_liger_kernel": True},
        {"parallelism_config": {"a": 1}},
        {"debug": "tpu_metrics_debug"},
        {"push_to_hub": True},
        {"torch_compile_backend": "foo"},
        {"batch_eval_metrics": True},
        {"eval_do_concat_batches": False},
        {"deepspeed": "foo.json"},
        {"accelerator_config": 5},
        {"accelerator_config": {"dispatch_batches": True}},
        {"metric_for_best_model": "loss"},
        {"greater_is_better": True},
        {"resume_from_checkpoint": "checkpoint-1"},
        {"remove_unused_columns": True},
        {"do_train": True},
        {"hub_model_id": "a/b"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [TrainerArguments, FinetuneArguments])
def test_what_no_run_would_obey(kind: type[Any], settings: dict[str, Any], tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))} cannot be used: "):
        kind(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_checkpointing_kwargs": 5}, "gradient_checkpointing_kwargs must be a mapping, got 5"),
        ({"gradient_checkpointing_kwargs": {"use": 1}}, "gradient_checkpointing_kwargs has no 'use'"),
        ({"optim_args": 5}, "optim_args must be a text, got 5"),
        ({"optim": 5}, "optim must be a text, got 5"),
        ({"lr_scheduler_kwargs": [1]}, r"lr_scheduler_kwargs must be a mapping, got \[1\]"),
        ({"report_to": 5}, "report_to must be a name or a list of names, got 5"),
        ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers needs dataloader_num_workers"),
        ({"fp16": True}, "fp16 needs a GPU"),
        ({"teacher_cache": 5}, "teacher_cache must be a folder, got 5"),
        ({"max_length": 16.5}, "max_length must be a whole number, got 16.5"),
        ({"max_length": None}, "max_length must be a whole number, got None"),
        ({"length_buckets": 1.5}, "length_buckets must be a whole number, got 1.5"),
        ({"num_train_epochs": None}, "num_train_epochs must be a number, got None"),
    ],
)
def test_a_setting_of_another_kind(settings: dict[str, Any], message: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        FinetuneArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)


def test_a_number_of_numpy(tmp_path: Any) -> None:
    arguments = FinetuneArguments(output_dir=str(tmp_path / "out"), use_cpu=True, seed=np.int64(3))
    assert type(arguments.seed) is int
