"""Finds the files of a split in a local folder."""

from __future__ import annotations

import re
from pathlib import Path

from .files import TABLE_SUFFIXES
from .registry import TASKS, Task

# The TSV release of GLUE calls validation "dev".
SPLIT_STEMS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "validation_matched": ("validation_matched", "dev_matched"),
    "validation_mismatched": ("validation_mismatched", "dev_mismatched"),
    "test": ("test",),
}


def split_files(folder: Path, split: str) -> list[Path]:
    """Files of one split: `<split>.<suffix>`, or the shards `<split>-00000-of-00002.<suffix>`.

    [] when there are none. Raises ValueError when shards are missing, and when several files could be the split.
    """
    found = []
    for stem in SPLIT_STEMS[split]:
        for suffix in TABLE_SUFFIXES:
            whole = folder / f"{stem}{suffix}"
            if whole.is_file():
                found.append([whole])
            if shards := sorted(folder.glob(f"{stem}-*-of-*{suffix}")):
                found.append(_complete(shards))
    if len(found) > 1:
        names = " and ".join(files[0].name for files in found)
        raise ValueError(f"{folder}: {names} could all be its {split} split; keep one of them in this folder")
    return found[0] if found else []


def task_folder(task: Task, data: Path) -> Path:
    """The folder of a known task: data/<group>/<name>, data/<name> or data itself, with a train file.

    Also found: the folder names of GLUE's TSV release and the Hub repository's configuration
    folders. Raises FileNotFoundError that lists where was looked, ValueError for a file and for the
    folder of another task.
    """
    if not data.exists():
        raise FileNotFoundError(f"{data}: no such folder")
    if not data.is_dir():
        raise ValueError(
            f"{data}: {task.name} needs a folder with its splits; for one file of your own use the task 'custom'"
        )
    candidates = _candidates(task, data)
    found = next((folder for folder in candidates if split_files(folder, task.train_split)), None)
    if found is None:
        looked = ", ".join(str(folder) for folder in candidates)
        raise FileNotFoundError(
            f"{task.name}: no {task.train_split} file ({', '.join(TABLE_SUFFIXES)}) in any of {looked}"
        )
    _refuse_other_task(task, found)
    return found


def _candidates(task: Task, data: Path) -> list[Path]:
    folders = []
    for base in (data / task.group if task.group else data, data):
        for name in (task.name, task.glue_folder, task.hub_config):
            if name:
                folders.append(base / name)
    if task.hub_config and task.hub_config != task.name:
        folders.append(data / task.name / task.hub_config)
    return list(dict.fromkeys([*folders, data]))


def _refuse_other_task(task: Task, folder: Path) -> None:
    # Tasks share column names, so that another task's files would load without any error.
    for other in TASKS.values():
        if other is not task and folder.resolve().name in (other.name, other.glue_folder):
            raise ValueError(f"{folder} is the folder of {other.name}, but the task asked for is {task.name}")


def _complete(shards: list[Path]) -> list[Path]:
    counts = {match[1] for shard in shards if (match := re.search(r"-of-(\d+)$", shard.stem))}
    if len(counts) != 1 or int(next(iter(counts))) != len(shards):
        raise ValueError(f"{shards[0].parent}: shards are missing or mixed: {[shard.name for shard in shards]}")
    return shards
