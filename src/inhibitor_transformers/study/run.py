"""Runs the fine-tunings of a study, several at a time, and goes on where it was interrupted.

OUT/study.yaml                                 the settings
OUT/<task>/<model>/lr-0.0001/seed-0/           one fine-tuning; results.json in it when it is finished
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import yaml

from ..common.atomic import atomic_write
from ..common.inputs import require_apart
from ..common.lock import FolderLock
from ..common.paths import expand_user
from ..common.progress import Log, progress
from ..common.settings import require
from ..distill.teacher.storage import require_cache_folder
from .config import StudyConfig
from .record import RECORD, make_record, require_results_of_this_study, require_same_study, require_usable_folder
from .runs import Run, Study
from .worker import end_with_parent, execute


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
    output = expand_user(output)
    for name, number in (("jobs", jobs), ("threads", threads)):
        require(type(number) is int and number > 0, f"{name} must be a positive whole number, got {number!r}")
    require_apart(output, config.inputs)
    for cache in config.caches:
        require_cache_folder(cache, config.inputs)
    require_usable_folder(output, resume=resume)
    record = make_record(config)
    if resume:
        require_same_study(record.content, output / RECORD)
        for run in Study(config, output).finished():
            require_results_of_this_study(config, run, run.folder(output), record.content["examples"][run.task])
    else:
        for note in record.notes:
            log(note)
    output.mkdir(parents=True, exist_ok=True)
    with FolderLock(output):
        require_usable_folder(output, resume=resume)  # another may have begun meanwhile
        atomic_write(output / RECORD, yaml.safe_dump(record.content, sort_keys=False))
        return _run_pending(Study(config, output), jobs, threads, log)


def _run_pending(study: Study, jobs: int, threads: int, log: Log) -> Study:
    """Keep `jobs` processes busy until nothing is left that can be run."""
    started: list[Run] = []
    failed: dict[Run, str] = {}
    running: dict[Future[str], Run] = {}
    with (
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with_parent) as pool,
        progress("fine-tuning", study.count_left(), "models") as advance,
    ):
        while True:
            waiting = [run for run in study.pending() if run not in failed and run not in running.values()]
            for run in waiting[: jobs - len(running)]:
                started.append(run)
                running[pool.submit(execute, study.config, study.output, run, threads)] = run
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(done)
                if (reason := _failure(done, run)) is not None:
                    failed[run] = reason
                log(f"{run}: {done.result() if reason is None else reason}")
                advance(1)
    if failed:
        first = next(run for run in started if run in failed)  # not of those that ended: two may fail at once
        raise StudyFailedError(f"{len(failed)} fine-tunings failed; the first, {first}: {failed[first]}")
    return study


def _failure(done: Future[str], run: Run) -> str | None:
    """Why a fine-tuning failed; None for one that did not. Raises StudyFailedError if its process was killed."""
    error = done.exception()
    if isinstance(error, BrokenProcessPool):
        raise StudyFailedError(
            f"a process was ended from outside, perhaps for lack of memory, during {run}; go on with --resume, and "
            "fewer --jobs"
        )
    return None if error is None else " ".join(str(error).split()) or type(error).__name__
