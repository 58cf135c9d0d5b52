"""Runs stages one after the other, whatever they are; a run that was interrupted goes on after the last finished one.

A stage is finished when its student/ exists: folders are written under another name and then renamed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from ...common.progress import Log
from ..output_dir import save_atomically
from ..training.checkpoints import model_fault
from .base import RunContext, Stage

OnStage = Callable[[str, PreTrainedModel], None]


def stage_folder(output: Path, index: int, name: str) -> Path:
    """Where stage `index` of a run keeps what it writes."""
    return output / "stages" / f"{index + 1}-{name}"


def saved_student(output: Path, index: int, name: str) -> Path:
    """The student after stage `index`."""
    return stage_folder(output, index, name) / "student"


def count_finished(output: Path, names: Sequence[str], log: Log) -> int:
    """Number of stages until the last one whose student is there and can be loaded."""
    for index in reversed(range(len(names))):
        student = saved_student(output, index, names[index])
        if not student.is_dir():
            continue
        fault = model_fault(student)
        if fault is None:
            return index + 1
        log(f"{student} is damaged ({fault}): this stage is run again")
    return 0


def run_stages(
    stages: Sequence[Stage], context: RunContext, *, finished: int = 0, on_stage: OnStage | None = None
) -> None:
    """Run all but the first `finished` stages on the student of the context, in place, and save it after each.

    context: its folder is that of the run. on_stage: called with the name and the student as each stage ends.
    """
    for index, stage in enumerate(stages[finished:], start=finished):
        context.log(f"stage {index + 1} of {len(stages)}: {stage.name}")
        stage.run(dataclasses.replace(context, folder=stage_folder(context.folder, index, stage.name)))
        save_atomically(saved_student(context.folder, index, stage.name), context.student, context.data.preprocessor)
        if on_stage:
            on_stage(stage.name, context.student)
