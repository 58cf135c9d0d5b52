"""The folder of a run: resumed with the same settings only, its models never half-written.

Of several processes the main one writes; the others come back once it is done.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel

from ..common.atomic import atomic_write
from ..common.distributed import is_main_process, wait_for_everyone
from ..common.errors import ConfigError
from ..common.output_dir import OutputDir
from ..models.saving import save_model
from ..tasks.modalities import Preprocessor


class RunFolder(OutputDir):
    """The output folder of a run that can be resumed, by one process or by several that train together.

    Args:
        output, command, resume, overwrite: as for `OutputDir`.
        settings: of the run; one that is resumed must have begun with the same.
        more_to_come: that one may have settings beside these, to be passed to `create`.

    Raises ConfigError.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        command: str,
        settings: dict[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        more_to_come: bool = False,
    ) -> None:
        super().__init__(output, command, resume=resume, overwrite=overwrite)
        self.require_same(settings, more_to_come=more_to_come)

    def is_writer(self) -> bool:
        return is_main_process()

    def create(self, settings: dict[str, Any]) -> None:
        self.require_same(settings)
        wait_for_everyone()  # what one process writes, none must find while it checks
        super().create(settings)
        wait_for_everyone()

    def finish(self) -> None:
        wait_for_everyone()
        super().finish()
        wait_for_everyone()

    def require_same(self, settings: dict[str, Any], *, more_to_come: bool = False) -> None:
        """Raise ConfigError, naming those that differ, if a run that is resumed began with other settings."""
        if not self.resume:
            return
        before, now = self.settings(), yaml.safe_load(yaml.safe_dump(settings, sort_keys=False))
        names = now if more_to_come else now | before
        if differing := [name for name in names if before.get(name) != now.get(name)]:
            raise ConfigError(
                f"the run in {self.path} began with other settings than this one ({', '.join(differing)}): resume "
                "with those, or use another folder"
            )


def save_atomically(folder: Path, model: PreTrainedModel, preprocessor: Preprocessor) -> None:
    """Save model and preprocessor so that `folder` either is complete or is not there."""
    if is_main_process():
        _save_atomically(folder, model, preprocessor)
    wait_for_everyone()


def save_into(output: Path, model: PreTrainedModel, preprocessor: Preprocessor) -> None:
    """Save model and preprocessor beside what `output` already holds; each file is replaced whole."""
    if is_main_process():
        saved = output / "model"
        try:
            _save_atomically(saved, model, preprocessor)
            for file in saved.iterdir():
                file.replace(output / file.name)
        finally:
            shutil.rmtree(saved, ignore_errors=True)
    wait_for_everyone()


def write_json(file: Path, value: Any) -> None:
    """Write `value` so that `file` either is complete or is not there; in the main process only."""
    if is_main_process():
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, json.dumps(value, indent=2, default=str))


def _save_atomically(folder: Path, model: PreTrainedModel, preprocessor: Preprocessor) -> None:
    half = folder.with_name(folder.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        save_model(half, model, preprocessor)
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
