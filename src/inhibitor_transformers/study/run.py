"""Runs the fine-tunings of a study, several at a time, and goes on where it was interrupted.

OUT/study.yaml                                 the settings
OUT/<task>/<model>/lr-0.0001/seed-0/           one fine-tuning; results.json in it when it is finished
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from ..common.atomic import atomic_write
from ..common.errors import ConfigError
from ..common.inputs import require_apart
from ..common.lock import FolderLock
from ..common.output_dir import RUN_FILE, is_used, require_folder
from ..common.paths import expanded
from ..common.progress import counted, progress
from ..common.settings import load_record, require
from ..distill.fingerprints import data_fingerprint, encoder_fingerprint
from ..distill.task import FineTuning
from ..distill.task.arguments import changed_settings
from ..distill.task.result import RESULTS
from ..distill.task.teacher import TeacherAtChanceError
from ..distill.teacher.manifest import require_cache_folder
from ..models.pretrained import load_pretrained
from .checks import require_fitting
from .config import StudyConfig, study_model
from .runs import REFUSED, Cell, Study

RECORD = "study.yaml"
Log = Callable[[str], None]


class StudyFailedError(ValueError):
    """Some fine-tunings of a study failed; the others are finished."""


def run_study(
    config: StudyConfig,
    output: str | Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    resume: bool = False,
    log: Log = print,
) -> Study:
    """Run what is not finished yet; returns the study, from which a table can be made at any time.

    jobs: fine-tunings at a time, each in a process of its own with so many `threads`. `resume` goes on in a folder
    that is there already; rows, tasks, seeds and learning rates may have been added since, nothing else changed. A
    model whose weights were not kept is fine-tuned once more if an added row is taught by it.

    Raises ConfigError before any work is done: also if `output` is, contains or lies inside a model or the data, or if
    another process runs the study. Raises StudyFailedError when fine-tunings failed (after all others have run).
    """
    output = expanded(output)
    for name, number in (("jobs", jobs), ("threads", threads)):
        require(type(number) is int and number > 0, f"{name} must be a positive whole number, got {number!r}")
    require_apart(output, config.inputs)
    for cache in config.caches:
        require_cache_folder(cache, config.inputs)
    _require_free(output, resume=resume)
    record, notes = _record(config)
    if resume:
        _check_record(record, output / RECORD)
        for cell in Study(config, output).finished():
            _require_own(config, cell, cell.folder(output), record["examples"][cell.task])
    else:
        for note in notes:
            log(note)
    output.mkdir(parents=True, exist_ok=True)
    with FolderLock(output):
        _require_free(output, resume=resume)  # another may have begun meanwhile
        atomic_write(output / RECORD, yaml.safe_dump(record, sort_keys=False))
        return _run_pending(Study(config, output), jobs, threads, log)


def _run_pending(study: Study, jobs: int, threads: int, log: Log) -> Study:
    failed: dict[Cell, str] = {}
    running: dict[Future[str], Cell] = {}
    with (
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with_parent) as pool,
        progress("fine-tuning", study.count_left(), "models") as advance,
    ):
        while True:
            waiting = [c for c in study.pending() if c not in failed and c not in running.values()]
            for cell in waiting[: jobs - len(running)]:
                running[pool.submit(run_cell, study.config, study.output, cell, threads)] = cell
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(done)
                error = done.exception()
                if isinstance(error, BrokenProcessPool):
                    raise StudyFailedError(
                        f"a process was ended from outside, perhaps for lack of memory, during "
                        f"{cell.folder(Path())}; go on with --resume, and fewer --jobs"
                    )
                if error:
                    failed[cell] = " ".join(str(error).split()) or type(error).__name__
                log(f"{cell.folder(Path())}: {failed[cell] if error else done.result()}")
                advance(1)
    if failed:
        cell, reason = next(iter(failed.items()))
        raise StudyFailedError(f"{len(failed)} fine-tunings failed; the first, {cell.folder(Path())}: {reason}")
    return study


def end_with_parent() -> None:
    """In a worker: end when the study is killed, or it would go on writing beside the next one."""
    parent = parent_process()
    assert parent is not None

    def wait_for_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_it, daemon=True).start()


def run_cell(config: StudyConfig, output: Path, cell: Cell, threads: int) -> str:
    """Run one fine-tuning and keep its results; its weights only if it teaches another. Returns a line to print."""
    torch.set_num_threads(threads)
    logging.set_verbosity_error()  # a new head for the task is what is wanted
    study, folder = Study(config, output), cell.folder(output)
    data = config.parts[cell.task].load(config.data_seed)
    arguments = config.arguments(cell.task, cell.model, cell.learning_rate, cell.seed, folder)
    arguments.disable_tqdm = True  # lines, not bars, in the log
    teacher = study.teacher_folder(cell)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with folder.with_suffix(".log").open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            result = FineTuning(
                config.rows[cell.model].model,
                data,
                arguments,
                folder,
                teacher_source=str(teacher) if teacher else None,
                teacher_base=config.teacher_base(cell.model),
                resume=(folder / RUN_FILE).exists(),
            ).run()
    except TeacherAtChanceError as error:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / REFUSED, str(error))
        return str(error)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # none were saved if the settings say so
    if not study.is_teacher(cell.model):
        (folder / SAFE_WEIGHTS_NAME).unlink()
    split, scores = next(iter(result.scores.items()))
    return f"{split} {', '.join(f'{name} {value:.4f}' for name, value in scores.items())} in {result.seconds:.0f} s"


def _record(config: StudyConfig) -> tuple[dict[str, Any], list[str]]:
    """The settings, what the rows' weights are, for a model that was trained anew is another one, and the examples;
    and what is to be said of these."""
    sources = {row.model for row in config.rows.values()}
    weights = {source: encoder_fingerprint(load_pretrained(source)) for source in counted(sources, "models")}
    data = {name: task.load(config.data_seed) for name, task in config.parts.items()}
    require_fitting(config, data)
    rows = {name: dataclasses.asdict(row) for name, row in config.rows.items()}
    examples, notes = {}, []
    for name, loaded in data.items():
        examples[name] = data_fingerprint(loaded)
        notes += loaded.notes
    return dataclasses.asdict(config) | {"models": rows, "weights": weights, "examples": examples}, notes


def _require_own(config: StudyConfig, cell: Cell, folder: Path, examples: dict[str, Any]) -> None:
    """Raise ConfigError for the results of a fine-tuning that was not the study's."""
    row = config.rows[cell.model]
    arguments = config.arguments(cell.task, cell.model, cell.learning_rate, cell.seed, folder)
    arguments.disable_tqdm = True
    expected = {"model": row.model, "teacher_base": config.teacher_base(cell.model), "data": examples}
    expected |= changed_settings(arguments)
    there = load_record(folder / RESULTS, "delete it, and this fine-tuning is run again").get("settings")
    found = there if isinstance(there, dict) else {}
    differing = [name for name in expected if found.get(name) != expected[name]]
    if bool(found.get("teacher")) != bool(row.teacher):
        differing.append("teacher")
    if differing:
        raise ConfigError(
            f"{folder} holds a fine-tuning that is not this study's ({', '.join(differing)}): delete it, and it is "
            "run again"
        )


def _require_free(output: Path, *, resume: bool) -> None:
    """Raise ConfigError unless a study may begin in the folder, or go on in it."""
    require_folder(output)
    if resume:
        require((output / RECORD).is_file(), f"{output} holds no study to resume (there is no {RECORD} in it)")
    elif is_used(output):
        is_study = (output / RECORD).is_file()
        what = "add --resume to go on with the study in it, or" if is_study else "it holds no study:"
        raise ConfigError(f"{output} exists; {what} choose another folder")


def _check_record(now: dict[str, Any], record: Path) -> None:
    """Raise ConfigError unless the study of a record began with these settings, but for what may be added."""
    before = load_record(record, "this study cannot be gone on with: use another folder")
    kinds = {"models": dict, "tasks": dict, "weights": dict, "examples": dict, "seeds": list}
    whole = now.keys() <= before.keys() and all(isinstance(before[name], kind) for name, kind in kinds.items())
    require(whole and bool(before["seeds"]), f"{record} is damaged: use another folder")
    # a row of an earlier version lacks the settings that came later: they are at their defaults
    before["models"] = {name: dataclasses.asdict(study_model(name, row)) for name, row in before["models"].items()}
    changed = [name for name in ("training", "data", "data_seed") if before[name] != now[name]]
    for name in ("models", "tasks", "weights", "examples"):
        both = before[name].keys() & now[name].keys()
        changed += [f"{name}: {key}" for key in sorted(both) if before[name][key] != now[name][key]]
    if before["seeds"][0] != now["seeds"][0]:
        changed.append("the first of the seeds, which chose the learning rates")
    if changed:
        raise ConfigError(f"{record} holds other settings than this study ({', '.join(changed)}): use another folder")
