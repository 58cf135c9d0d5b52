"""The Trainer of a fine-tuning: its loss, its metrics, and how it chooses the best epoch."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import DataCollatorWithPadding, EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase

from ...tasks import Task, compute_metrics, encode
from ..teacher.teacher import Teacher
from ..training.trainer import DistillationTrainer
from .arguments import FinetuneArguments
from .data import Examples
from .loss import TaskLoss


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    train_set: Dataset,
    examples: Examples,
    arguments: FinetuneArguments,
    teacher: Teacher | None,
) -> DistillationTrainer:
    """A trainer of `model` on `train_set` (encoded), which ends with the epoch that `examples.selection` chooses.

    arguments: the metric of the best epoch is written into them. teacher: the one whose logits `train_set` has.
    """
    arguments.metric_for_best_model = f"eval_{examples.chosen_by}_{task.main_metric}"
    arguments.greater_is_better = True

    def metrics(prediction: Any) -> dict[str, float]:
        logits = prediction.predictions
        return compute_metrics(task, logits[0] if isinstance(logits, tuple) else logits, prediction.label_ids)

    criterion = TaskLoss(
        regression=task.is_regression,
        teacher=teacher,
        alpha_task=arguments.alpha_task if teacher else 1.0,
        alpha_soft=arguments.alpha_soft,
        alpha_hidden=arguments.alpha_hidden,
        temperature=arguments.temperature,
    )
    patience = arguments.early_stopping_patience
    return DistillationTrainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset={examples.chosen_by: encode(examples.selection, tokenizer, task, arguments.max_length)},
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=metrics,
        callbacks=[EarlyStoppingCallback(patience)] if patience else None,
        criterion=criterion,
        scalar_learning_rate_factor=arguments.scalar_learning_rate_factor,
        length_buckets=arguments.length_buckets or 1,
    )
