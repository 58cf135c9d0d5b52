"""Output folders: never overwritten unasked, never half-written, resumable only with the same settings.

Of several processes the main one writes; the others come back once it is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..measure.whole_file import write_whole
from ..models.saving import save_model
from .processes import is_main_process, wait_for_everyone
from .settings import ConfigError, load_record

RECORD = "run.yaml"


def check_output(
    output: Path, settings: dict[str, Any], *, resume: bool, overwrite: bool, more_to_come: bool = False
) -> None:
    """Raise ConfigError unless a run with these settings may write to `output`; changes nothing.

    It may if the folder is empty or not there, to `overwrite` it, or to `resume` the same settings.
    more_to_come: the record may hold settings that are not known yet.
    """
    if resume and overwrite:
        raise ConfigError("--resume goes on with what is in the folder, --overwrite deletes it: give one of them")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; choose another output folder")
    if not _is_used(output) or overwrite:
        return
    record = output / RECORD
    if not resume:
        raise ConfigError(f"{output} exists; add --overwrite to start anew, or choose another folder")
    if not record.exists():
        raise ConfigError(f"{output} holds no run to resume (there is no {RECORD} in it)")
    before = load_record(record, "this run cannot be resumed: start anew with --overwrite, or use another folder")
    now = yaml.safe_load(_as_text(settings))
    names = now if more_to_come else now | before
    if differing := [name for name in names if before.get(name) != now.get(name)]:
        raise ConfigError(
            f"{record} holds other settings than this run ({', '.join(differing)}): resume with those, or use another "
            "folder"
        )


def fingerprint(values: Iterable[Any]) -> str:
    """Number and hash of texts or other plain values, so that a run is not resumed on other data."""
    digest, count = hashlib.blake2b(digest_size=8), 0
    for value in values:
        digest.update(f"{value!r}\n".encode("utf-8", "backslashreplace"))
        count += 1
    return f"{count}, {digest.hexdigest()}"


def prepare_output(output: Path, settings: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make `output` ready for a run with these settings and write them to run.yaml in it.

    Deletes what `overwrite` allows: call it when nothing can go wrong any more. Raises as `check_output`.
    """
    check_output(output, settings, resume=resume, overwrite=overwrite)
    wait_for_everyone()  # what one process writes, none must find while it checks
    if is_main_process():
        if overwrite and _is_used(output):
            shutil.rmtree(output)
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / RECORD, _as_text(settings))
    wait_for_everyone()


def _as_text(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=False)


def _is_used(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def save_atomically(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save model and tokenizer so that `folder` either is complete or is not there."""
    if is_main_process():
        _save_atomically(folder, model, tokenizer)
    wait_for_everyone()


def save_into(output: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save model and tokenizer beside what `output` already holds; each file is replaced whole."""
    if is_main_process():
        saved = output / "model"
        try:
            _save_atomically(saved, model, tokenizer)
            for file in saved.iterdir():
                file.replace(output / file.name)
        finally:
            shutil.rmtree(saved, ignore_errors=True)
    wait_for_everyone()


def write_json(file: Path, value: Any) -> None:
    """Write `value` so that `file` either is complete or is not there; in the main process only."""
    if is_main_process():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(value, indent=2, default=str))


def _save_atomically(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    half = folder.with_name(folder.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        save_model(half, model, tokenizer)
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
