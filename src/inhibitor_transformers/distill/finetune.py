"""Fine-tuning on a task, with or without a fine-tuned teacher (the paper's task-specific regime)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from ..measure.positions import require_positions
from ..measure.task_score import score_task
from ..measure.tokenizers import require_same_tokenizer
from ..models.pretrained import SAFE_LOADING, load_pretrained, load_tokenizer
from ..tasks import Task, TaskData, chance_level, compute_metrics, encode, hold_out
from .finetune_arguments import FinetuneArguments
from .folders import check_output, fingerprint, last_whole_checkpoint, prepare_output, save_into, write_json
from .memory import estimate_memory
from .objectives import TaskObjective
from .processes import on_main_process
from .settings import require
from .teacher import Teacher
from .teacher_logits import with_teacher_logits
from .trainer import DistillationTrainer

Scores = dict[str, dict[str, float]]

SELECTION = "selection"  # name of the held-out part of the training examples
_PARTS_ON_A_CPU = 4


class TeacherAtChanceError(ValueError):
    """The teacher knows nothing of the task, so that there is nothing to distil."""


@dataclass(frozen=True)
class FinetuneResult:
    """Scores of the best epoch on every evaluation split, those of the teacher, and the wall time in seconds.

    selection_score: the main metric that the best epoch was chosen by.
    """

    scores: Scores
    teacher_scores: Scores | None
    selection_score: float | None
    seconds: float


def finetune(
    source: str,
    data: TaskData,
    arguments: FinetuneArguments,
    output: Path,
    *,
    teacher_source: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> FinetuneResult:
    """Fine-tune a model (inhibitor or not) on a task and save the best epoch in `output`, with results.json.

    With `teacher_source`, a model fine-tuned on the same task, its soft targets join the loss. The teacher is first
    scored through this very pipeline, and refused unless it beats chance. Checkpoints are in `output`/checkpoints,
    whatever `arguments` say.

    Raises ValueError (ConfigError) before any work is done.
    """
    started, say = time.monotonic(), on_main_process(say)
    settings = {"model": source, "teacher": teacher_source, "task": data.task.name, "data": _fingerprints(data)}
    settings |= _own_settings(arguments)
    arguments.output_dir = str(output / "checkpoints")
    check_output(output, settings, resume=resume, overwrite=overwrite)
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(source)
    model = load_for_task(source, data.task, arguments.attention_dropout)
    require_positions(model.config, arguments.max_length, "max_length")
    teacher, teacher_tokenizer, teacher_scores = None, None, None
    if teacher_source is not None:
        teacher_tokenizer = load_tokenizer(teacher_source)
        require_same_tokenizer(tokenizer, teacher_tokenizer)
        teacher, teacher_scores = _checked_teacher(teacher_source, teacher_tokenizer, data, arguments, say)
        width, teacher_width = model.config.hidden_size, teacher.model.config.hidden_size
        require(
            arguments.alpha_hidden == 0 or width == teacher_width,
            f"alpha_hidden compares hidden states of one width; the teacher has {teacher_width}, the model {width}",
        )
    prepare_output(output, settings, resume=resume, overwrite=overwrite)
    for note in data.notes:
        say(note)
    # Both give the same ids; only the teacher's own tokenizer is sure to give the segments that it was trained with.
    train, selection = _training_examples(data, arguments)
    encoded = encode(train, teacher_tokenizer or tokenizer, data.task, arguments.max_length)
    if teacher is not None and teacher_tokenizer is not None:
        cache = Path(arguments.teacher_cache) if arguments.teacher_cache else None
        encoded = with_teacher_logits(encoded, teacher, teacher_tokenizer, cache, say)
    trainer = _trainer(model, tokenizer, data.task, encoded, selection, arguments, teacher)
    tokens = arguments.per_device_train_batch_size * arguments.max_length
    say(f"{estimate_memory(model, teacher.model if teacher else None, model.config, tokens)}, at full length")
    checkpoint = last_whole_checkpoint(output / "checkpoints")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    evaluation = data.evaluation | selection
    scores = score_task(model, tokenizer, replace(data, evaluation=evaluation), max_length=arguments.max_length)
    ((chosen_by, _),) = selection.items()
    _require_best_restored(trainer, scores[chosen_by], data.task)
    selection_score = scores[chosen_by][data.task.main_metric]
    scores = {split: scores[split] for split in data.evaluation}
    result = FinetuneResult(scores, teacher_scores, selection_score, time.monotonic() - started)
    save_into(output, model, tokenizer)
    record = dataclasses.asdict(result) | {"settings": settings, "notes": data.notes}
    write_json(output / "results.json", record)
    return result


def load_for_task(source: str, task: Task, attention_dropout: float | None = None) -> PreTrainedModel:
    """A model with a classification head for the task; the head may be new. Raises ValueError if it does not load.

    attention_dropout: instead of the rate in its config.
    """
    labels: dict[str, Any] = {"num_labels": task.num_labels, "problem_type": task.problem_type}
    if task.label_names:
        labels["id2label"] = dict(enumerate(task.label_names))
        labels["label2id"] = {name: i for i, name in enumerate(task.label_names)}
    try:
        if attention_dropout is not None:
            labels[_dropout_field(source)] = attention_dropout
        return AutoModelForSequenceClassification.from_pretrained(source, **labels, **SAFE_LOADING)
    except RuntimeError:  # transformers has only a table of sizes to say
        raise ValueError(f"the head of {source!r} is not one of {task.num_labels} labels, as {task.name} has") from None
    except OSError as error:
        raise ValueError(f"cannot load {source!r} for {task.name}: {str(error).strip().splitlines()[0]}") from error


def _dropout_field(source: str) -> str:
    """What the model's config calls its attention dropout."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    known = [name for name in ("attention_dropout", "attention_probs_dropout_prob") if hasattr(config, name)]
    require(bool(known), f"attention_dropout: a {config.model_type} has none")
    return known[0]


def _checked_teacher(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    data: TaskData,
    arguments: FinetuneArguments,
    say: Callable[[str], None],
) -> tuple[Teacher, Scores]:
    model = load_pretrained(source, AutoModelForSequenceClassification)
    require_positions(model.config, arguments.max_length, "max_length")
    task = data.task
    if model.config.num_labels != task.num_labels:
        raise ValueError(f"teacher {source!r} has {model.config.num_labels} labels, {task.name} has {task.num_labels}")
    theirs = [str(model.config.id2label[i]) for i in range(task.num_labels)]
    lower, ours = [name.lower() for name in theirs], [name.lower() for name in task.label_names]
    if sorted(lower) == sorted(ours) and lower != ours:
        raise ValueError(f"teacher {source!r} orders its labels {theirs}, {task.name} has {list(task.label_names)}")
    scores = score_task(model.to(arguments.device), tokenizer, data, max_length=arguments.max_length)
    for split, values in scores.items():
        score, chance = values[task.main_metric], chance_level(task, data.evaluation[split][task.label_column])
        say(f"teacher on {task.name} {split}: {task.main_metric} {score:.4f} (chance {chance:.4f})")
        if score <= chance:
            raise TeacherAtChanceError(
                f"teacher {source!r} is no better than chance on {task.name} {split}: {task.main_metric} {score:.4f} "
                f"against {chance:.4f}; a model fine-tuned on {task.name} with this tokenizer is needed"
            )
    return Teacher(model), scores


def _training_examples(data: TaskData, arguments: FinetuneArguments) -> tuple[Dataset, dict[str, Dataset]]:
    """What is trained on, and the one split that the best epoch is chosen by."""
    if arguments.selection_share == 0:
        return data.train, dict([next(iter(data.evaluation.items()))])
    train, held_out = hold_out(
        data.train,
        data.task,
        seed=arguments.seed,
        source=f"the training examples of {data.task.name}",
        fraction=arguments.selection_share,
    )
    return train, {SELECTION: held_out}


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
    objective = TaskObjective(
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
        objective=objective,
        scalar_learning_rate_factor=arguments.scalar_learning_rate_factor,
        length_parts=arguments.length_parts or _default_parts(arguments),
    )


def _default_parts(arguments: FinetuneArguments) -> int:
    return _PARTS_ON_A_CPU if arguments.device.type == "cpu" and arguments.world_size == 1 else 1


def _require_best_restored(trainer: DistillationTrainer, scores: dict[str, float], task: Task) -> None:
    best, now = trainer.state.best_metric, scores[task.main_metric]
    if trainer.args.load_best_model_at_end and best is not None and not np.isclose(best, now, atol=5e-3):
        raise RuntimeError(f"the best checkpoint scored {task.main_metric} {best:.4f}, the restored model {now:.4f}")


def _own_settings(arguments: FinetuneArguments) -> dict[str, Any]:
    """The arguments that differ from their defaults, plainly."""
    # with the same device: made without, it would take the processes of this run apart
    defaults = FinetuneArguments(output_dir=arguments.output_dir, use_cpu=arguments.use_cpu)
    names = sorted({f.name for f in dataclasses.fields(arguments)} - {"output_dir"})
    given = {n: getattr(arguments, n) for n in names if getattr(arguments, n) != getattr(defaults, n)}
    given = {n: v.value if isinstance(v, Enum) else v for n, v in given.items()}
    return {n: v for n, v in given.items() if isinstance(v, bool | int | float | str)}


def _fingerprints(data: TaskData) -> dict[str, str]:
    splits = {"train": data.train, **data.evaluation}
    return {split: fingerprint(tuple(row.values()) for row in examples) for split, examples in splits.items()}
