"""Output folders: never overwritten unasked, never half-written, resumable only with the same settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .settings import ConfigError

RECORD = "run.yaml"


def prepare_output(output: Path, settings: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make `output` ready for a run with these settings and write them to run.yaml in it.

    Raises ConfigError if the folder exists and neither flag is given, or if it holds a run with other settings.
    """
    text = yaml.safe_dump(settings, sort_keys=False)
    record = output / RECORD
    if resume and not overwrite and _is_used(output):
        if not record.exists():
            raise ConfigError(f"{output} holds no run to resume (there is no {RECORD} in it)")
        if record.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{record} holds other settings than this run: resume with those, or use another folder")
        return
    prepare_folder(output, overwrite=overwrite)
    record.write_text(text, encoding="utf-8")


def prepare_folder(folder: Path, *, overwrite: bool) -> None:
    """Make an empty folder. Raises ConfigError if it holds anything and may not be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another output folder")
    if _is_used(folder):
        if not overwrite:
            raise ConfigError(f"{folder} exists; add --overwrite to start anew, or choose another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _is_used(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: Trainer writes trainer_state.json last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def save_atomically(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Save model and tokenizer so that `folder` either is complete or is not there."""
    half = folder.with_name(folder.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    model.save_pretrained(half)
    tokenizer.save_pretrained(half)
    shutil.rmtree(folder, ignore_errors=True)
    return half.rename(folder)


def save_into(output: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save model and tokenizer beside what `output` already holds; each file is replaced whole."""
    saved = save_atomically(output / "model", model, tokenizer)
    for file in saved.iterdir():
        file.replace(output / file.name)
    saved.rmdir()
