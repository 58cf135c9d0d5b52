"""A fine-tuning that is interrupted shows the same examples in the same order, and ends with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import DataCollatorWithPadding, DistilBertForSequenceClassification, EarlyStoppingCallback

from inhibitor_transformers.common.settings import ConfigError, build
from inhibitor_transformers.distill.stages.align_hidden import AlignHidden
from inhibitor_transformers.distill.task.arguments import FinetuneArguments
from inhibitor_transformers.distill.training.trainer import DistillationTrainer
from tests.distill.fine_tuning import FAST
from tests.distill.tiny import distilbert, distilbert_tokenizer

EXAMPLES, BATCH = 24, 6  # four steps an epoch
SHORT = FAST | {
    "per_device_train_batch_size": BATCH,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": None,
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "report_to": "none",
}


def examples(count: int, *, seed: int) -> Dataset:
    """Rows of 3 to 40 random tokens; `row` is their number."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 41, (count,), generator=generator).tolist()
    ids = [torch.randint(5, 60, (n,), generator=generator).tolist() for n in lengths]
    columns = {"input_ids": ids, "attention_mask": [[1] * n for n in lengths], "labels": [n % 2 for n in lengths]}
    return Dataset.from_dict(columns)


class Recorded:
    """Cross-entropy that notes which rows it has seen."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def __call__(self, student: Any, batch: Any, count: Any) -> dict[str, torch.Tensor]:
        self.seen.append(batch["row"].tolist())
        logits = student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return {"task": F.cross_entropy(logits, batch["labels"], reduction="sum") / count}


class Trained(NamedTuple):
    """A finished training, and the rows of every batch that it has seen."""

    trainer: DistillationTrainer
    seen: list[list[int]]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return self.trainer.model.state_dict()


def train(folder: Path, *, checkpoint: int | None = None, **settings: Any) -> Trained:
    """Train a DistilBERT with dropout, from its beginning or from the checkpoint of that number."""
    torch.manual_seed(3 if checkpoint is None else 7)  # whatever the process drew before
    model = distilbert(DistilBertForSequenceClassification)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    arguments = FinetuneArguments(output_dir=str(folder), **(SHORT | settings))
    train_set, criterion, patience = examples(EXAMPLES, seed=0), Recorded(), arguments.early_stopping_patience
    trainer = DistillationTrainer(
        model=model,
        args=arguments,
        train_dataset=train_set.add_column("row", list(range(len(train_set)))),
        eval_dataset=examples(8, seed=1),
        data_collator=DataCollatorWithPadding(distilbert_tokenizer()),
        processing_class=distilbert_tokenizer(),
        callbacks=[EarlyStoppingCallback(patience)] if patience else None,
        criterion=criterion,
        length_buckets=arguments.length_buckets or 1,
    )
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(folder / f"checkpoint-{checkpoint}"))
    return Trained(trainer, criterion.seen)


def assert_same(a: Trained, b: Trained) -> None:
    assert [name for name in a.weights if not torch.equal(a.weights[name], b.weights[name])] == []


EPOCHS = {"save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "random": {},
    "sequential": {"train_sampling_strategy": "sequential"},
    "by_length": {"train_sampling_strategy": "group_by_length"},
    "by_length_with_a_data_seed": {"train_sampling_strategy": "group_by_length", "data_seed": 5},
    "data_seed": {"data_seed": 5},
    "accumulation": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3, "save_steps": 1},
    "accumulation_by_length": {
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 3,
        "save_steps": 1,
        "train_sampling_strategy": "group_by_length",
    },
    "uneven_accumulation": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 5, "save_steps": 1},
    "drop_last": {"dataloader_drop_last": True, "per_device_train_batch_size": 5},
    "parts": {"length_buckets": 3},
    "workers": {"dataloader_num_workers": 2},
    "persistent_workers": {"dataloader_num_workers": 1, "dataloader_persistent_workers": True},
    "evaluated_by_epochs": {"eval_strategy": "epoch"},
    "evaluated_by_steps": {"eval_strategy": "steps", "eval_steps": 2},
    "evaluated_before": {"eval_strategy": "epoch", "eval_on_start": True},
    "best_of_the_epochs": EPOCHS,
    "best_of_the_steps": {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "load_best_model_at_end": True},
    "half_an_epoch_more": {"num_train_epochs": 2.5},
    "rebalance": {"train_sampling_strategy": "batch_rebalance"},
    "steps": {"max_steps": 10},
    "constant_rate": {"lr_scheduler_type": "constant", "weight_decay": 0.0},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These matrices are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_weights_and_the_order_are_those_of_an_uninterrupted_run(name, tmp_path):
    """From the checkpoint at the end of the first epoch, and from one inside the second."""
    whole = train(tmp_path, **SETTINGS[name])
    state = whole.trainer.state
    first = round(state.global_step / state.epoch)
    inside = first + (1 if "gradient_accumulation_steps" in SETTINGS[name] else 2)
    for step in (first, inside) if SETTINGS[name] is not EPOCHS else (first,):
        resumed = train(tmp_path, checkpoint=step, **SETTINGS[name])
        assert_same(resumed, whole)
        assert 0 < len(resumed.seen) <= len(whole.seen) - step
        assert resumed.seen == whole.seen[-len(resumed.seen) :]
    if "dataloader_drop_last" not in SETTINGS[name]:
        rows = [row for batch in whole.seen for row in batch]
        assert sorted(rows[:EXAMPLES]) == sorted(rows[EXAMPLES : 2 * EXAMPLES]) == list(range(EXAMPLES))


class TestEarlyStopping:
    SETTINGS: ClassVar[dict[str, Any]] = EPOCHS | {"num_train_epochs": 5, "learning_rate": 1e-30, "weight_decay": 0.0}

    def test_patience_is_counted_on(self, tmp_path):
        whole = train(tmp_path, **self.SETTINGS, early_stopping_patience=2)
        assert whole.trainer.state.global_step == 12  # no epoch is better than the first
        resumed = train(tmp_path, checkpoint=8, **self.SETTINGS, early_stopping_patience=2)
        assert resumed.trainer.state.global_step == 12
        assert len(resumed.seen) == 4

    def test_a_run_that_had_stopped_trains_no_further(self, tmp_path):
        settings = self.SETTINGS | {"early_stopping_patience": 1}
        whole = train(tmp_path, **settings)
        assert whole.trainer.state.global_step == 8
        resumed = train(tmp_path, checkpoint=8, **settings)
        assert resumed.seen == []
        assert resumed.trainer.state.global_step == 8
        assert resumed.trainer.state.best_metric == whole.trainer.state.best_metric
        assert_same(resumed, whole)


@pytest.mark.parametrize("settings", [{"num_train_epochs": 1.4}, {"max_steps": 6}, EPOCHS | {"num_train_epochs": 1}])
def test_a_run_that_had_ended_trains_no_further(settings, tmp_path):
    whole = train(tmp_path, **settings)
    resumed = train(tmp_path, checkpoint=whole.trainer.state.global_step, **settings)
    assert resumed.seen == []
    assert_same(resumed, whole)


def test_the_best_checkpoint_is_found_in_a_folder_that_was_moved(tmp_path):
    settings = EPOCHS | {"num_train_epochs": 3, "learning_rate": 3e-2}
    whole = train(tmp_path / "here", **settings)
    assert whole.trainer.state.best_global_step < 12
    (tmp_path / "here").rename(tmp_path / "there")
    assert_same(train(tmp_path / "there", checkpoint=8, **settings), whole)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"ignore_data_skip": True}, "some examples would be seen twice"),
        ({"save_only_model": True}, "cannot go on from its checkpoints"),
        ({"auto_find_batch_size": True}, "start anew with weights that are trained already"),
        ({"dataloader_in_order": False}, "the order would be another in every run"),
        ({"restore_callback_states_from_checkpoint": False}, "early stopping would count anew"),
        ({"accelerator_config": {"use_seedable_sampler": False}}, "draws another order"),
    ],
)
def test_what_could_not_be_resumed_exactly_is_refused(setting, reason):
    for arguments in (FinetuneArguments, AlignHidden):
        with pytest.raises(ConfigError, match=reason) as error:
            build(arguments, setting | {"output_dir": "unused", "use_cpu": True}, where="here")
        assert next(iter(setting)) in str(error.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, got 4294967296"),
        ({"data_seed": -1}, "data_seed must be from 0 to"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be positive, got 0"),
        ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size must be positive, got 0"),
        (
            {"train_sampling_strategy": "by_length"},
            "train_sampling_strategy must be one of random, sequential, group_by",
        ),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers must not be negative, got -1"),
    ],
)
def test_numbers_that_fail_late_in_trainer(setting, message):
    for arguments in (FinetuneArguments, AlignHidden):
        with pytest.raises(ConfigError, match=message):
            build(arguments, setting | {"output_dir": "unused", "use_cpu": True}, where="here")


def test_a_batch_of_nothing():
    with pytest.raises(ConfigError, match="per_device_train_batch_size must be positive, got 0"):
        FinetuneArguments(output_dir="unused", use_cpu=True, per_device_train_batch_size=0)
