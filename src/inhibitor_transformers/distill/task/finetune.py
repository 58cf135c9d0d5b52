"""Fine-tuning on a task, with or without a fine-tuned teacher (the paper's task-specific regime)."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from ...common.distributed import on_main_process, wait_for_everyone
from ...common.inputs import require_apart
from ...common.paths import expanded
from ...common.progress import progress
from ...common.settings import load_record, require
from ...evaluation.task_score import score_task
from ...models.architectures import require_positions
from ...models.compatibility import warn_of_lost_segments
from ...models.loading import require_finite
from ...models.pretrained import SAFE_LOADING, load_config, load_tokenizer, loading, require_encoder
from ...tasks import Task, TaskData, compute_metrics, encode, hold_out
from ..output_dir import RunFolder, save_into, write_json
from ..teacher.fingerprints import data_fingerprint, model_fingerprint, tokenizer_fingerprint
from ..teacher.logits import with_teacher_logits
from ..teacher.storage import CACHE, require_cache_folder
from ..teacher.teacher import Teacher
from ..training.checkpoints import last_whole_checkpoint, model_fault, require_trainable
from ..training.log_lines import estimate_memory
from ..training.trainer import DistillationTrainer
from .alignment import align_with_task_teacher
from .arguments import FinetuneArguments, own_settings
from .data import require_usable
from .loss import TaskLoss
from .teacher import Scores, TaskTeacher, load_task_teacher, score_initial, score_teacher

RESULTS = "results.json"  # written last: a run that has it is finished
SELECTION = "selection"  # name of the held-out part of the training examples
_PARTS_ON_A_CPU = 4


@dataclass(frozen=True)
class FinetuneResult:
    """Scores of the best epoch on every evaluation split, those of the teacher, and the wall time in seconds.

    initial_scores: before training, of a model that starts from its teacher's task vector.
    aligned_scores: after its hidden states were aligned, before it has seen a label.
    selection_score: the main metric that the best epoch was chosen by.
    """

    scores: Scores
    teacher_scores: Scores | None
    initial_scores: Scores | None
    aligned_scores: Scores | None
    selection_score: float | None
    seconds: float


def finetune(
    source: str | Path,
    data: TaskData,
    arguments: FinetuneArguments,
    output: str | Path,
    *,
    teacher_source: str | Path | None = None,
    teacher_base: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> FinetuneResult:
    """Fine-tune a model (inhibitor or not) on a task and save the best epoch in `output`, with results.json.

    With `teacher_source`, a model fine-tuned on the same task, its soft targets join the loss. The teacher is first
    scored through this very pipeline, and refused unless it beats chance. With `teacher_base`, what that teacher was
    fine-tuned from, the model starts from the teacher's task vector (`add_task_vector`), and is scored before it is
    trained. With `alignment_epochs`, its hidden states are aligned first (`align_with_task_teacher`). Checkpoints are
    in `output`/checkpoints, whatever `arguments` say. A run that is to `overwrite` an older one is in `output`/.partial
    until it is finished.

    Raises ValueError (ConfigError) before any work is done: also if `output` is, contains or lies inside something that
    is read, or if another process works in it.
    """
    started, log = time.monotonic(), on_main_process(log)
    source, output = os.path.expanduser(source), expanded(output)
    teacher_source, teacher_base = (
        None if name is None else os.path.expanduser(name) for name in (teacher_source, teacher_base)
    )
    cache = expanded(arguments.teacher_cache) if arguments.teacher_cache else None
    inputs = {"model": source, "teacher": teacher_source, "teacher's base": teacher_base, CACHE: cache}
    require_apart(output, inputs | {"data": data.source})
    require_cache_folder(cache, inputs | {"data": data.source})
    require_usable(data, arguments)
    settings = {"model": source, "teacher": teacher_source, "teacher_base": teacher_base, "task": data.task.name}
    settings |= {"data": data_fingerprint(data)} | own_settings(arguments)
    require(teacher_base is None or teacher_source is not None, "a teacher's base needs the teacher: give both")
    aligns = arguments.alignment_epochs > 0
    require(not aligns or teacher_source is not None, "alignment_epochs needs a teacher to align with: give one")
    flags = {"resume": resume, "overwrite": overwrite, "more_to_come": True}
    with RunFolder(output, "finetune", settings, **flags) as folder:
        return _finetune(source, data, arguments, folder, settings, teacher_source, teacher_base, started, log)


def _finetune(
    source: str,
    data: TaskData,
    arguments: FinetuneArguments,
    folder: RunFolder,
    settings: dict[str, Any],
    teacher_source: str | None,
    teacher_base: str | None,
    started: float,
    log: Callable[[str], None],
) -> FinetuneResult:
    output = folder.path
    arguments.output_dir = str(output / "checkpoints")
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(source)
    label_mean = float(np.mean(data.train[data.task.label_column])) if data.task.is_regression else None
    model = load_for_task(source, data.task, arguments.attention_dropout, label_mean)
    require_positions(model.config, arguments.max_length, "max_length")
    if data.task.is_pair:
        warn_of_lost_segments(model.config, tokenizer, data.task.name)
    settings = settings | {"tokenizer": tokenizer_fingerprint(tokenizer), "model_weights": model_fingerprint(model)}
    taught_by = teacher_scores = initial_scores = None
    if teacher_source is not None:
        taught_by = load_task_teacher(teacher_source, teacher_base, model, tokenizer, data, arguments)
        settings |= taught_by.weights
    folder.require_same(settings)
    if folder.resume and (finished := _finished(output)) is not None:
        log(f"{folder.output} is finished already: nothing is left to resume")
        folder.create(settings)
        folder.finish()
        return finished
    if taught_by is not None:
        teacher_scores = score_teacher(str(teacher_source), taught_by, data, arguments.max_length, log)
        initial_scores = score_initial(model, tokenizer, taught_by, data, arguments, log)
    train, selection = _training_examples(data, arguments)
    folder.create(settings)
    for note in data.notes:
        log(note)
    encoded = _encoded(train, tokenizer, taught_by, data.task, arguments, log)
    teacher = taught_by.teacher if taught_by else None
    checkpoint, aligned_scores = _checkpoint(output / "checkpoints", log), None
    if teacher is not None and arguments.alignment_epochs > 0:
        aligned_scores = _aligned(model, teacher, tokenizer, encoded, data, arguments, checkpoint is not None, log)
    trainer = _trainer(model, tokenizer, data.task, encoded, selection, arguments, teacher)
    tokens = arguments.per_device_train_batch_size * arguments.max_length
    log(f"{estimate_memory(model, teacher.model if teacher else None, model.config, tokens)}, at full length")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    scores, selection_score = _final_scores(trainer, model, tokenizer, data, selection, arguments)
    seconds = time.monotonic() - started
    result = FinetuneResult(scores, teacher_scores, initial_scores, aligned_scores, selection_score, seconds)
    save_into(output, model, tokenizer)
    record = dataclasses.asdict(result) | {"settings": settings, "notes": data.notes}
    write_json(output / RESULTS, record)
    folder.finish()
    return result


def _finished(output: Path) -> FinetuneResult | None:
    """The result of a run that ended, and whose model is there and can be loaded."""
    file = output / RESULTS
    if not file.exists() or model_fault(output) is not None:
        return None
    cure = "delete it, and this fine-tuning is run again"
    record = load_record(file, cure)
    names = [field.name for field in dataclasses.fields(FinetuneResult)]
    require(all(name in record for name in names), f"{file} is damaged; {cure}")
    return FinetuneResult(**{name: record[name] for name in names})


def _checkpoint(folder: Path, log: Callable[[str], None]) -> Path | None:
    """What the training of an interrupted run goes on from."""
    checkpoint = last_whole_checkpoint(folder, log)
    if checkpoint is not None:
        log(f"resuming from {checkpoint.name}")
    elif any(folder.glob("checkpoint-*")):
        log("no checkpoint is whole: the training starts anew")
    return checkpoint


@progress("loading a model")
def load_for_task(
    source: str, task: Task, attention_dropout: float | None = None, label_mean: float | None = None
) -> PreTrainedModel:
    """A model with a classification head for the task; the head may be new.

    attention_dropout: instead of the rate in its config. label_mean: in the labels' units, where a new head of a
    regression begins; from 0 it would get there by moving all hidden states, for a bias moves a learning rate a step.

    Raises ValueError if it does not load, is quantized, or has weights that are NaN or infinite.
    """
    config = load_config(source)
    require_encoder(config, source)
    require_trainable(config, repr(source))
    labels: dict[str, Any] = {"num_labels": task.num_labels, "problem_type": task.problem_type}
    if task.label_names:
        labels["id2label"] = dict(enumerate(task.label_names))
        labels["label2id"] = {name: i for i, name in enumerate(task.label_names)}
    if attention_dropout is not None:
        labels[_dropout_field(source)] = attention_dropout
    try:
        with loading(source):
            model, info = AutoModelForSequenceClassification.from_pretrained(
                source, **labels, output_loading_info=True, **SAFE_LOADING
            )
    except ValueError as error:
        if isinstance(error.__cause__, RuntimeError):  # transformers has only a table of sizes to say
            head = f"the head of {source!r} is not one of {task.num_labels} labels, as {task.name} has"
            raise ValueError(head) from error.__cause__
        raise
    require_finite(model, repr(source))
    if label_mean is not None:
        _start_new_output_at(label_mean, model, info["missing_keys"])
    return model


def _start_new_output_at(value: float, model: PreTrainedModel, new: Collection[str]) -> None:
    """Set the bias of a single output, if it is among the `new` entries of the model's state."""
    for name, parameter in model.named_parameters():
        if name in new and name.endswith("bias") and parameter.shape == (1,):
            torch.nn.init.constant_(parameter, value)


def _dropout_field(source: str) -> str:
    """What the model's config calls its attention dropout."""
    config = load_config(source)
    known = [name for name in ("attention_dropout", "attention_probs_dropout_prob") if hasattr(config, name)]
    require(bool(known), f"attention_dropout: a {config.model_type} has none")
    return known[0]


def _training_examples(data: TaskData, arguments: FinetuneArguments) -> tuple[Dataset, dict[str, Dataset]]:
    """What is trained on, and the one split that the best epoch is chosen by."""
    if arguments.selection_fraction == 0:
        return data.train, dict([next(iter(data.evaluation.items()))])
    train, held_out = hold_out(
        data.train,
        data.task,
        seed=arguments.seed,
        source=f"the training examples of {data.task.name}",
        fraction=arguments.selection_fraction,
    )
    return train, {SELECTION: held_out}


def _encoded(
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    taught_by: TaskTeacher | None,
    task: Task,
    arguments: FinetuneArguments,
    log: Callable[[str], None],
) -> Dataset:
    """The training examples as tokens, with the teacher's logits where there is a teacher."""
    if taught_by is None:
        return encode(train, tokenizer, task, arguments.max_length)
    # Both give the same ids; only the teacher's own tokenizer is sure to give the segments that it was trained with.
    encoded = encode(train, taught_by.tokenizer, task, arguments.max_length)
    cache = expanded(arguments.teacher_cache) if arguments.teacher_cache else None
    return with_teacher_logits(encoded, taught_by.teacher, taught_by.tokenizer, cache, log)


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    train: Dataset,
    selection: dict[str, Dataset],
    arguments: FinetuneArguments,
    teacher: Teacher | None,
) -> DistillationTrainer:
    def metrics(prediction: Any) -> dict[str, float]:
        logits = prediction.predictions
        return compute_metrics(task, logits[0] if isinstance(logits, tuple) else logits, prediction.label_ids)

    ((chosen_by, examples),) = selection.items()
    arguments.metric_for_best_model = f"eval_{chosen_by}_{task.main_metric}"
    arguments.greater_is_better = True
    criterion = TaskLoss(
        regression=task.is_regression,
        teacher=teacher,
        alpha_task=arguments.alpha_task if teacher else 1.0,
        alpha_soft=arguments.alpha_soft,
        alpha_hidden=arguments.alpha_hidden,
        temperature=arguments.temperature,
    )
    return DistillationTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset={chosen_by: encode(examples, tokenizer, task, arguments.max_length)},
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=metrics,
        callbacks=[EarlyStoppingCallback(patience)] if (patience := arguments.early_stopping_patience) else None,
        criterion=criterion,
        scalar_learning_rate_factor=arguments.scalar_learning_rate_factor,
        length_buckets=arguments.length_buckets or _default_parts(arguments),
    )


def _default_parts(arguments: FinetuneArguments) -> int:
    return _PARTS_ON_A_CPU if arguments.device.type == "cpu" and arguments.world_size == 1 else 1


def _aligned(
    model: PreTrainedModel,
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Dataset,
    data: TaskData,
    arguments: FinetuneArguments,
    is_trained: bool,
    log: Callable[[str], None],
) -> Scores:
    """Align the model, unless a checkpoint `is_trained` further already; returns what it scored before any label."""
    folder = Path(str(arguments.output_dir)) / "alignment"
    file = folder / "scores.json"
    scores: Scores | None = _kept_scores(file)
    if not is_trained or scores is None:
        parts = arguments.length_buckets or _default_parts(arguments)
        align_with_task_teacher(model, teacher, tokenizer, encoded, arguments, folder, length_buckets=parts, log=log)
    wait_for_everyone()  # until all have looked
    if scores is None:
        scores = score_task(model, tokenizer, data, max_length=arguments.max_length)
        write_json(file, scores)
    for split, values in scores.items():
        metric = data.task.main_metric
        log(f"aligned with the teacher on {data.task.name} {split}: {metric} {values[metric]:.4f}")
    return scores


def _kept_scores(file: Path) -> Scores | None:
    try:
        scores: Scores = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # not there yet, or cut off
        return None
    return scores if isinstance(scores, dict) else None


def _final_scores(
    trainer: DistillationTrainer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TaskData,
    selection: dict[str, Dataset],
    arguments: FinetuneArguments,
) -> tuple[Scores, float]:
    """Of the best epoch: on the evaluation splits, and the main metric that it was chosen by."""
    evaluation = data.evaluation | selection
    scores = score_task(model, tokenizer, replace(data, evaluation=evaluation), max_length=arguments.max_length)
    ((chosen_by, _),) = selection.items()
    _require_best_restored(trainer, scores[chosen_by], data.task)
    return {split: scores[split] for split in data.evaluation}, scores[chosen_by][data.task.main_metric]


def _require_best_restored(trainer: DistillationTrainer, scores: dict[str, float], task: Task) -> None:
    best, now = trainer.state.best_metric, scores[task.main_metric]
    if trainer.args.load_best_model_at_end and best is not None and not np.isclose(best, now, atol=5e-3):
        raise RuntimeError(f"the best checkpoint scored {task.main_metric} {best:.4f}, the restored model {now:.4f}")
