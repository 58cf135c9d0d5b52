"""OUT/study.yaml: what a study began with, and whether another call may go on with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from ..common.errors import ConfigError
from ..common.output_dir import is_used, require_folder
from ..common.progress import track
from ..common.settings import load_record, require
from ..distill.task.arguments import changed_settings
from ..distill.task.result import RESULTS
from ..distill.teacher.fingerprints import data_fingerprint, encoder_fingerprint
from ..models.pretrained import load_pretrained
from .checks import require_fitting
from .config import StudyConfig, study_model
from .runs import Run

RECORD = "study.yaml"


class Record(NamedTuple):
    """The content of RECORD, and what is to be said of the data."""

    content: dict[str, Any]
    notes: list[str]


def make_record(config: StudyConfig) -> Record:
    """The settings, with fingerprints of weights and examples: a model that was trained anew is another one.

    Raises ValueError for a model or data that cannot be loaded, and for a row that does not fit a task.
    """
    sources = {row.model for row in config.rows.values()}
    weights = {source: encoder_fingerprint(load_pretrained(source)) for source in track(sources, "models")}
    data = {name: task.load(config.data_seed) for name, task in config.study_tasks.items()}
    require_fitting(config, data)
    content = dataclasses.asdict(config) | {
        "models": {name: dataclasses.asdict(row) for name, row in config.rows.items()},
        "weights": weights,
        "examples": {name: data_fingerprint(loaded) for name, loaded in data.items()},
    }
    return Record(content, [note for loaded in data.values() for note in loaded.notes])


def require_usable_folder(output: Path, *, resume: bool) -> None:
    """Raise ConfigError unless a study may begin in the folder, or go on in it."""
    require_folder(output)
    if resume:
        require((output / RECORD).is_file(), f"{output} holds no study to resume (there is no {RECORD} in it)")
    elif is_used(output):
        is_study = (output / RECORD).is_file()
        what = "add --resume to go on with the study in it, or" if is_study else "it holds no study:"
        raise ConfigError(f"{output} exists; {what} choose another folder")


def require_same_study(now: dict[str, Any], record: Path) -> None:
    """Raise ConfigError unless the study of a record began with these settings, but for what may be added."""
    before = load_record(record, "this study cannot be gone on with: use another folder")
    kinds = {"models": dict, "tasks": dict, "weights": dict, "examples": dict, "seeds": list}
    whole = now.keys() <= before.keys() and all(isinstance(before[name], kind) for name, kind in kinds.items())
    require(whole and bool(before["seeds"]), f"{record} is damaged: use another folder")
    # a row of an earlier version lacks the settings that came later: they are at their defaults
    try:
        before["models"] = {name: dataclasses.asdict(study_model(name, row)) for name, row in before["models"].items()}
    except ConfigError as error:  # of the record, not of the settings that were given
        raise ConfigError(f"{record}: {error}: use another folder") from error
    changed = [name for name in ("training", "data", "data_seed") if before[name] != now[name]]
    for name in ("models", "tasks", "weights", "examples"):
        both = before[name].keys() & now[name].keys()
        changed += [f"{name}: {key}" for key in sorted(both) if before[name][key] != now[name][key]]
    if before["seeds"][0] != now["seeds"][0]:
        changed.append("the first of the seeds, which chose the learning rates")
    if changed:
        raise ConfigError(f"{record} holds other settings than this study ({', '.join(changed)}): use another folder")


def require_results_of_this_study(config: StudyConfig, run: Run, folder: Path, examples: str) -> None:
    """Raise ConfigError if the folder of a run holds a fine-tuning with other settings.

    examples: the fingerprint of the task's data.
    """
    row = config.rows[run.model]
    arguments = config.arguments(run.task, run.model, run.learning_rate, run.seed, folder)
    expected = {"model": row.model, "teacher_base": config.teacher_base(run.model), "data": examples}
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
