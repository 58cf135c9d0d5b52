"""What happens in a process of its own: one fine-tuning."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import parent_process
from pathlib import Path

import torch
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from ..common.atomic import atomic_write
from ..common.output_dir import RUN_FILE
from ..distill.task import FinetuneResult, FineTuning
from ..distill.task.teacher import TeacherAtChanceError
from .config import StudyConfig
from .runs import SKIPPED, Run, Study


def end_with_parent() -> None:
    """End this process when the study is killed, or it would go on writing beside the next one."""
    parent = parent_process()
    assert parent is not None

    def wait_for_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_it, daemon=True).start()


def execute(config: StudyConfig, output: Path, run: Run, threads: int) -> str:
    """Fine-tune, keep the scores, and the weights only if they teach another row. Returns a line to print."""
    torch.set_num_threads(threads)
    logging.set_verbosity_error()  # a new head for the task is what is wanted
    folder = run.folder(output)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with folder.with_suffix(".log").open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            result = _finetune(config, output, run)
    except TeacherAtChanceError as error:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / SKIPPED, str(error))
        return str(error)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # none were saved if the settings say so
    if not Study(config, output).is_teacher(run.model):
        (folder / SAFE_WEIGHTS_NAME).unlink()
    split, scores = next(iter(result.scores.items()))
    return f"{split} {', '.join(f'{name} {value:.4f}' for name, value in scores.items())} in {result.seconds:.0f} s"


def _finetune(config: StudyConfig, output: Path, run: Run) -> FinetuneResult:
    """Begin a run, or go on with one that was interrupted."""
    folder, teacher = run.folder(output), Study(config, output).teacher_folder(run)
    return FineTuning(
        config.rows[run.model].model,
        config.study_tasks[run.task].load(config.data_seed),
        config.arguments(run.task, run.model, run.learning_rate, run.seed, folder),
        folder,
        teacher_source=teacher,
        teacher_base=config.teacher_base(run.model),
        resume=(folder / RUN_FILE).exists(),
    ).run()
