"""Before a task is trained: hidden states aligned with those of the task's fine-tuned teacher, without labels."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ...common.distributed import wait_for_everyone
from ...common.progress import Log
from ...evaluation.task_score import score_task
from ...models import map_layers
from ...models.architectures import transformer_layers
from ...tasks import TaskData
from ..losses import IGNORED
from ..output_dir import save_atomically, write_json
from ..pairing import EncoderPairing
from ..stages.align_hidden import HiddenStateLoss, HiddenWeights, hidden_variances
from ..stages.base import STATISTICS_BATCHES
from ..teacher.teacher import Teacher, model_inputs
from ..training.checkpoints import last_whole_checkpoint, model_fault
from ..training.trainer import DistillationTrainer
from .arguments import FinetuneArguments
from .result import Scores

_SCORES = "scores.json"


def align_and_score(
    model: PreTrainedModel,
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    data: TaskData,
    arguments: FinetuneArguments,
    is_aligned: bool,
    log: Log,
) -> Scores:
    """Align the model, unless it `is_aligned` already; returns what it scored before any label."""
    folder = Path(str(arguments.output_dir)) / "alignment"
    scores = _load_scores(folder / _SCORES)
    if not is_aligned or scores is None:
        align_with_task_teacher(model, teacher, tokenizer, train, arguments, folder, log)
    wait_for_everyone()  # until all have looked
    if scores is None:
        scores = score_task(model, tokenizer, data, max_length=arguments.max_length)
        write_json(folder / _SCORES, scores)
    for split, values in scores.items():
        metric = data.task.main_metric
        log(f"aligned with the teacher on {data.task.name} {split}: {metric} {values[metric]:.4f}")
    return scores


def align_with_task_teacher(
    model: PreTrainedModel,
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    arguments: FinetuneArguments,
    folder: Path,
    log: Log = print,
) -> None:
    """Train `model`, in place, to have the teacher's hidden states in every layer on the texts of a task.

    What intermediate layers teach before labels do (TinyBERT: Jiao et al. 2020, arXiv 1909.10351), with the loss of the
    stage align_hidden, and without dropout as there. Embeddings and head stay as they are: where both come from the
    teacher's task vector, the model knows most of the task in the end, having seen no label of it.

    Args:
        train: encoded examples (`encode`): lists of N token ids, with the teacher's segment ids; labels are not read.
        arguments: of the fine-tuning; those named alignment_… are of this.
        folder: its checkpoints, and the aligned model, from which an interrupted run goes on.

    Raises NonFiniteLossError, and ValueError for a model of an architecture that has no record. Teacher and model must
    have equally many layers.
    """
    finished = folder / "student"
    fault = model_fault(finished) if finished.is_dir() else None
    if fault is not None:
        log(f"{finished} is damaged ({fault}): the alignment is run again")
    elif finished.is_dir():
        log("hidden states were aligned before the interruption")
        model.load_state_dict(load_file(finished / "model.safetensors", device=str(model.device)))
        return
    collate = _collate_without_labels(tokenizer)
    layer_map = map_layers("all", teacher.model.config.num_hidden_layers)
    size = arguments.per_device_train_batch_size
    starts = range(0, min(STATISTICS_BATCHES * size, len(train)), size)
    batches = [collate([train[i] for i in range(s, min(s + size, len(train)))]) for s in starts]
    pairing = EncoderPairing(model, teacher, layer_map)
    variances = hidden_variances(
        pairing, [{name: t.to(arguments.device) for name, t in batch.items()} for batch in batches]
    )
    model.to(arguments.device).requires_grad_(False)
    for _, layer in transformer_layers(model):
        layer.requires_grad_(True)
    trainer = DistillationTrainer(
        model=model,
        args=_alignment_arguments(arguments, folder),
        train_dataset=train,
        data_collator=collate,
        processing_class=tokenizer,
        criterion=HiddenStateLoss(pairing, variances, HiddenWeights(cls=arguments.alignment_cls_weight)),
        scalar_learning_rate_factor=arguments.scalar_learning_rate_factor,
        dropout=False,
        length_buckets=arguments.length_buckets or 1,
    )
    checkpoint = last_whole_checkpoint(folder, log)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.requires_grad_(True)
    save_atomically(finished, model, tokenizer)


def _load_scores(file: Path) -> Scores | None:
    try:
        scores: Scores = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # not there yet, or cut off
        return None
    return scores if isinstance(scores, dict) else None


def _collate_without_labels(
    tokenizer: PreTrainedTokenizerBase,
) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
    """Pads what an encoder reads; `labels` says which tokens count, and holds nothing of the task's labels."""
    pad = DataCollatorWithPadding(tokenizer)

    def collate(examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = dict(pad([model_inputs(example) for example in examples]))
        return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)}

    return collate


def _alignment_arguments(arguments: FinetuneArguments, folder: Path) -> FinetuneArguments:
    """A copy with the alignment's epochs and rate; nothing is evaluated, no best epoch chosen."""
    own = copy.copy(arguments)
    own.output_dir = str(folder)
    own.num_train_epochs, own.max_steps = arguments.alignment_epochs, -1
    own.learning_rate, own.weight_decay = arguments.alignment_learning_rate, 0.0
    own.eval_strategy, own.save_strategy = IntervalStrategy.NO, SaveStrategy.EPOCH
    own.load_best_model_at_end, own.save_total_limit = False, 1
    return own
