"""The folder that a command writes: never somebody else's, never half replaced, one process at a time.

OUT/run.yaml    which command wrote the folder, and its settings; only a folder that has one is ever replaced
OUT/.lock       held while a process works in the folder
OUT.partial/    the new run that will take the place of an older one in OUT, once it is finished
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from .atomic import atomic_write
from .errors import ConfigError
from .lock import LOCK_FILE, FolderLock
from .strict_yaml import read_yaml

RUN_FILE = "run.yaml"
COMMAND = "inhibit"  # the key of RUN_FILE that names the command


class OutputDir:
    """The output folder of one command, from the first check to the swap.

    Checked when made, before any work and without changing anything. As a context it is held against other processes,
    to be `create`d when the work begins, written at `path`, and `finish`ed. What was in the folder before is untouched
    until then.

    Args:
        output: the folder, which need not be there.
        command: who writes it, for RUN_FILE.
        resume: go on in the folder, which must hold a run.
        overwrite: replace a run in the folder when the new one is finished; refused for a folder that holds none.
        resumable: whether an unfinished run is kept for `resume`. Otherwise the folder appears whole or not at all.

    Attributes:
        path: where to write: the folder, or OUT.partial beside it.

    Raises ConfigError.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        command: str,
        *,
        resume: bool = False,
        overwrite: bool = False,
        resumable: bool = True,
    ) -> None:
        self.output, self.command, self.resume, self.resumable = Path(output), command, resume, resumable
        self._target = self.output.expanduser().resolve()
        self._partial = self._target.with_name(f"{self._target.name}.partial")
        self._locks: dict[Path, FolderLock] = {}
        self.path = self._checked_path(resume, overwrite)

    def is_writer(self) -> bool:
        """Whether this process writes the folder; one that does not only knows where it lies."""
        return True

    def settings(self) -> dict[str, Any]:
        """The settings of the run that is resumed. Raises ConfigError if it is of another command."""
        record = read_run(self.path)
        if (command := record.pop(COMMAND)) != self.command:
            raise ConfigError(f"{self.path} holds a run of {command!r}, which {self.command!r} cannot resume")
        return record

    def lock(self) -> None:
        """Hold the folder against other processes, as far as it is there. Raises ConfigError if another has it."""
        if not self.is_writer():
            return
        try:
            for folder in (self._target, self._partial):
                if is_used(folder):
                    self._locks[folder] = FolderLock(folder)
        except ConfigError:
            self.release()
            raise

    def create(self, settings: dict[str, Any]) -> None:
        """Begin: make the folder and write RUN_FILE; an unfinished attempt that is not resumed is deleted."""
        if not self.is_writer():
            return
        if self.path == self._partial and is_used(self.path) and not self.resume:
            self._locks.pop(self.path).release()
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if self.path not in self._locks:
            self._locks[self.path] = FolderLock(self.path)
        if not self.resume and is_used(self.path):  # it may have come into being meanwhile
            raise ConfigError(_occupied(self.output))
        atomic_write(self.path / RUN_FILE, yaml.safe_dump({COMMAND: self.command} | settings, sort_keys=False))

    def finish(self) -> None:
        """The run is whole: let it take the place of an older one, and release the folder."""
        if self.is_writer() and self.path != self._target:
            self._swap()
        self.path = self._target
        self.release()

    def release(self) -> None:
        """Let other processes have the folder."""
        while self._locks:
            self._locks.popitem()[1].release()

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        created = self.path in self._locks
        self.release()
        if created and not self.resumable:
            shutil.rmtree(self.path, ignore_errors=True)

    def _checked_path(self, resume: bool, overwrite: bool) -> Path:
        if resume and overwrite:
            raise ConfigError("--resume goes on with what is in the folder, --overwrite replaces it: give one of them")
        if self.output.exists() and not self.output.is_dir():
            raise ConfigError(f"{self.output} is a file; choose another output folder")
        if resume:
            return self._path_to_resume()
        if is_used(self._partial):
            self._require_replaceable_attempt(overwrite)
        if is_used(self._target):
            if not overwrite:
                raise ConfigError(_occupied(self.output))
            self._require_replaceable()
            return self._partial
        return self._partial if is_used(self._partial) or not self.resumable else self._target

    def _path_to_resume(self) -> Path:
        for folder in (self._partial, self._target):
            if is_used(folder):
                if not (folder / RUN_FILE).is_file():
                    raise ConfigError(f"{folder} holds no run to resume (there is no {RUN_FILE} in it)")
                return folder
        raise ConfigError(f"{self.output} holds no run to resume: leave out --resume to start one")

    def _require_replaceable_attempt(self, overwrite: bool) -> None:
        """An unfinished attempt is deleted if that was asked for, or if its command is this one and cannot resume."""
        try:
            command = read_run(self._partial)[COMMAND]
        except ConfigError as error:
            raise ConfigError(
                f"{self._partial}, where {self.output} may have to be made, is no run ({error}); choose another folder"
            ) from error
        if not overwrite and (self.resumable or command != self.command):
            raise ConfigError(
                f"{self._partial} holds an unfinished run of {command!r} that was to become {self.output}: add "
                "--resume to go on with it, or --overwrite to start anew"
            )

    def _require_replaceable(self) -> None:
        """Raise ConfigError unless the folder is a run of ours, and nothing else, that can be moved away."""
        try:
            read_run(self._target)
        except ConfigError as error:
            raise ConfigError(
                f"--overwrite replaces runs only, and {self.output} is none ({error}); choose another folder"
            ) from error
        if other := next(_runs_within(self._target), None):
            raise ConfigError(f"{self.output} holds another run, {other}, which would be lost; choose another folder")
        if Path.cwd().resolve().is_relative_to(self._target) or os.path.ismount(self._target):
            raise ConfigError(f"{self.output} cannot be replaced while it is the current folder, or a mount")
        if not os.access(self._target.parent, os.W_OK):
            raise ConfigError(f"{self.output} cannot be replaced: its parent folder cannot be written to")

    def _swap(self) -> None:
        if os.name == "nt":  # where a folder with an open file cannot be moved
            self.release()
        if not self._target.exists():
            self._move(self.path, self._target)
            return
        aside = Path(tempfile.mkdtemp(prefix=f"{self._target.name}.replaced-", dir=self._target.parent))
        self._move(self._target, aside / "run")
        try:
            self._move(self.path, self._target)
        except OSError:
            self._move(aside / "run", self._target)
            aside.rmdir()
            raise
        shutil.rmtree(aside)

    def _move(self, folder: Path, to: Path) -> None:
        folder.rename(to)
        if folder in self._locks:
            self._locks[to] = self._locks.pop(folder)
            self._locks[to].moved(to)


def read_run(folder: Path) -> dict[str, Any]:
    """RUN_FILE of a folder. Raises ConfigError if there is none, or none that a command of this package wrote."""
    file = folder / RUN_FILE
    try:
        record = read_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no {RUN_FILE} in {folder}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(record, dict) or not isinstance(record.get(COMMAND), str):
        raise ConfigError(f"{file} is damaged, or was not written by this package")
    return record


def _occupied(output: Path) -> str:
    try:
        read_run(output)
    except ConfigError:
        return f"{output} exists and holds no run: choose another folder"
    return f"{output} exists; add --overwrite to replace the run in it, or choose another folder"


def is_used(folder: Path) -> bool:
    """Whether there is anything in the folder, but for the lock of a process."""
    return folder.is_dir() and any(entry.name != LOCK_FILE for entry in folder.iterdir())


def _runs_within(folder: Path) -> Iterator[Path]:
    """Folders further down that hold runs of their own."""
    for below, _, files in os.walk(folder):
        if RUN_FILE in files and Path(below) != folder:
            yield Path(below)
