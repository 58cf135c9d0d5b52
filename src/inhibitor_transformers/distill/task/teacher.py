"""The fine-tuned teacher of a task: what it must be, what it scores, and a student that starts from its task vector."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from ...common.progress import Log
from ...common.settings import require
from ...evaluation.task_score import is_in_task_order, label_order, score_task
from ...models import add_task_vector
from ...models.architectures import require_positions, transformer_layers
from ...models.compatibility import label_names, require_same_tokenizer
from ...models.pretrained import load_pretrained, load_tokenizer
from ...tasks import TaskData, chance_level
from ..teacher.fingerprints import encoder_fingerprint, model_fingerprint
from ..teacher.teacher import Teacher
from .arguments import FinetuneArguments
from .result import Scores


class TeacherAtChanceError(ValueError):
    """The teacher knows nothing of the task, so that there is nothing to distill."""


@dataclass(frozen=True)
class TaskTeacher:
    """A fine-tuned teacher with its tokenizer.

    weights: fingerprints of the teacher and, where the model that it teaches starts from its task vector, of its base.
    new_heads: heads of that model that the teacher has not, and which start anew.
    """

    teacher: Teacher
    tokenizer: PreTrainedTokenizerBase
    weights: dict[str, str]
    new_heads: list[str] | None


def load_task_teacher(
    source: str,
    base: str | None,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TaskData,
    arguments: FinetuneArguments,
) -> TaskTeacher:
    """A teacher for `model`. With `base`, what it was fine-tuned from, its task vector is added to `model`.

    Raises ValueError for another tokenizer, other labels or sizes, or a base that does not fit.
    """
    its_tokenizer = load_tokenizer(source)
    require_same_tokenizer(tokenizer, its_tokenizer)
    teacher = load_pretrained(source, AutoModelForSequenceClassification)
    require_positions(teacher.config, arguments.max_length, "max_length")
    _require_same_labels(source, teacher, data)
    width, teacher_width = model.config.hidden_size, teacher.config.hidden_size
    require(
        arguments.alpha_hidden == 0 or width == teacher_width,
        f"alpha_hidden compares hidden states of one width; the teacher has {teacher_width}, the model {width}",
    )
    _require_alignable(teacher, model, arguments)
    weights, new_heads = {"teacher_weights": model_fingerprint(teacher)}, None
    if base:
        pretrained = load_pretrained(base)
        new_heads = add_task_vector(model, teacher, pretrained)
        weights["teacher_base_weights"] = encoder_fingerprint(pretrained)
    return TaskTeacher(Teacher(teacher.to(arguments.device)), its_tokenizer, weights, new_heads)


def score_teacher(source: str, task_teacher: TaskTeacher, data: TaskData, max_length: int, log: Log) -> Scores:
    """The teacher's scores on every evaluation split. Raises TeacherAtChanceError for one that knows nothing."""
    scores = score_task(task_teacher.teacher.model, task_teacher.tokenizer, data, max_length=max_length)
    _require_above_chance(source, scores, data, log)
    return scores


def score_initial(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task_teacher: TaskTeacher,
    data: TaskData,
    arguments: FinetuneArguments,
    log: Log,
) -> Scores | None:
    """The scores of an untrained model that starts from its teacher's task vector; None for any other."""
    if task_teacher.new_heads is None:
        return None
    scores = score_task(model.to(arguments.device), tokenizer, data, max_length=arguments.max_length)
    new = task_teacher.new_heads
    metric, head = data.task.main_metric, f"; its head starts anew ({', '.join(new)})" if new else ""
    for split, values in scores.items():
        log(f"with the teacher's task vector on {data.task.name} {split}: {metric} {values[metric]:.4f}{head}")
    return scores


def _require_same_labels(source: str, teacher: PreTrainedModel, data: TaskData) -> None:
    """Its logits and its head are taken over as they stand."""
    task = data.task
    if not is_in_task_order(label_order(teacher.config, task, f"teacher {source!r}")):
        theirs, ours = label_names(teacher.config), list(task.label_names)
        raise ValueError(f"teacher {source!r} orders its labels {theirs}, {task.name} has {ours}")


def _require_alignable(teacher: PreTrainedModel, model: PreTrainedModel, arguments: FinetuneArguments) -> None:
    """Raise ValueError if hidden states are to be aligned, and the layers of these cannot be."""
    if arguments.alignment_epochs == 0:
        return
    next(transformer_layers(model))  # they are known
    depth, ours = teacher.config.num_hidden_layers, model.config.num_hidden_layers
    require(
        depth == ours,
        f"alignment_epochs aligns layer by layer; the teacher has {depth} layers, the model {ours}",
    )


def _require_above_chance(source: str, scores: Scores, data: TaskData, log: Log) -> None:
    task = data.task
    for split, values in scores.items():
        score, chance = values[task.main_metric], chance_level(task, data.evaluation[split][task.label_column])
        log(f"teacher on {task.name} {split}: {task.main_metric} {score:.4f} (chance {chance:.4f})")
        if score <= chance:
            raise TeacherAtChanceError(
                f"teacher {source!r} is no better than chance on {task.name} {split}: {task.main_metric} {score:.4f} "
                f"against {chance:.4f}; a model fine-tuned on {task.name} with this tokenizer is needed"
            )
