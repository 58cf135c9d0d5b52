"""A fine-tuned teacher's logits on a training set: computed once, and the same in every epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from ...common.distributed import is_main_process, wait_for_everyone
from ...common.progress import Log, progress, track
from .fingerprints import model_fingerprint, sequences_fingerprint, tokenizer_fingerprint
from .storage import open_array, require_manifest, write_manifest, writing_arrays
from .teacher import LOGITS, Teacher, model_inputs

_BATCH = 32


def add_teacher_logits(
    dataset: Dataset,
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path | None = None,
    log: Log = print,
) -> Dataset:
    """An encoded training set with the teacher's logits, (classes,) float32 each, in the column `teacher_logits`.

    They are kept in `folder`, if one is given, for other runs. Raises ConfigError if it holds those of another
    teacher, tokenizer or training set, naming which.
    """
    logits = cached_logits(dataset, teacher, tokenizer, folder, log)
    return dataset.add_column(LOGITS, logits.tolist())


def cached_logits(
    dataset: Dataset,
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path | None,
    log: Log,
) -> Tensor:
    """(examples, classes) float32, in the order of the data set; from `folder` if they are there."""
    if folder is None:
        return _compute_logits(dataset, teacher, tokenizer)
    inputs = [name for name in model_inputs(dict.fromkeys(dataset.column_names)) if name != "attention_mask"]
    manifest = {
        "teacher": model_fingerprint(teacher.model),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "training set": sequences_fingerprint(
            [
                np.concatenate([example[name] for name in inputs])
                for example in track(dataset, "taking fingerprints", unit="examples")
            ]
        ),
    }
    require_manifest(folder, manifest)
    name = f"logits-{manifest['teacher']}-{manifest['training set']}"
    there = (folder / f"{name}.npy").exists()
    wait_for_everyone()  # until all have looked
    if not there and is_main_process():
        write_manifest(folder, manifest)
        logits = _compute_logits(dataset, teacher, tokenizer).numpy()
        with writing_arrays(folder, [name], logits.shape, logits.dtype) as (file,):
            file.write(logits.tobytes())
    wait_for_everyone()
    log(f"teacher's logits: {'read from' if there else 'kept in'} {folder}")
    return torch.from_numpy(np.array(open_array(folder, name)))


def _compute_logits(dataset: Dataset, teacher: Teacher, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    collate = DataCollatorWithPadding(tokenizer)
    inputs = dataset.select_columns(list(model_inputs(dict.fromkeys(dataset.column_names))))
    found: list[Tensor] = []
    with progress("asking the teacher", len(dataset), "examples") as advance:
        order = sorted(range(len(dataset)), key=[len(ids) for ids in dataset["input_ids"]].__getitem__)
        for start in range(0, len(order), _BATCH):
            batch = collate([inputs[i] for i in order[start : start + _BATCH]])
            teacher_outputs = teacher({name: t.to(teacher.model.device) for name, t in batch.items()})
            assert teacher_outputs.logits is not None
            found.append(teacher_outputs.logits.float().cpu())
            advance(len(teacher_outputs.logits))
    return torch.cat(found)[torch.tensor(order).argsort()]
