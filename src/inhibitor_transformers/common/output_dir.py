"""The folder that a command writes: never somebody else's, never half replaced, one process at a time.

    OUT/run.yaml    which command wrote the folder, and its settings; only a folder that has one is ever replaced
    OUT/.lock       held while a process works in the folder
    OUT/.partial/   a run that is to replace what is there, or to appear whole, until it is finished

A finished run is moved up in steps that the next command on the folder completes if they are cut short: `.partial` is
renamed `.whole`, what it replaces goes to `.replaced/`, `.whole` is renamed `.moving`, what is in it goes up, and
`.replaced` is deleted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from .atomic import atomic_write
from .errors import ConfigError
from .lock import LOCK_FILE, FolderLock
from .paths import resolve_links
from .strict_yaml import read_yaml

RUN_FILE = "run.yaml"
COMMAND = "inhibit"  # the key of RUN_FILE that names the command
PARTIAL = ".partial"
_WHOLE, _MOVING, _REPLACED = ".whole", ".moving", ".replaced"
_OURS = frozenset((LOCK_FILE, PARTIAL, _WHOLE, _MOVING, _REPLACED))


class OutputDir:
    """The output folder of one command, from the first check to the last move.

    Checked when made, before any work and without changing anything (but for moves that were cut short, which are
    completed). As a context manager it holds the folder against other processes, to be `create`d when the work begins,
    written at `path`, and `finish`ed. What was in the folder before is untouched until then.

    Args:
        output: the folder, which need not be there.
        command: who writes it, for RUN_FILE.
        resume: go on in the folder, which must hold a run.
        overwrite: replace a run in the folder when the new one is finished; refused for a folder that holds none.
        resumable: whether an unfinished run is kept for `resume`. Otherwise the folder appears whole or not at all.

    Attributes:
        path: where to write: the folder, or OUT/.partial.

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
        self._target = resolve_links(self.output)
        self._partial = self._target / PARTIAL
        self._lock: FolderLock | None = None
        self._made: list[Path] = []  # folders that were made to hold the lock
        self._older: set[str] = set()  # what a finished run replaces
        self._created = False
        self._complete_moves()
        self.path = self._choose_path(resume, overwrite)

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
        """Hold the folder, made if it is not there, against other processes. Raises ConfigError if another has it."""
        if not self.is_writer():
            return
        missing = [folder for folder in (self._target, *self._target.parents) if not folder.exists()]
        self._target.mkdir(parents=True, exist_ok=True)
        self._made = missing
        self._lock = FolderLock(self._target)
        self._older = {entry.name for entry in _entries(self._target)}

    def create(self, settings: dict[str, Any]) -> None:
        """Begin: write RUN_FILE; an unfinished attempt that is not resumed is deleted."""
        if not self.is_writer():
            return
        if self.path == self._partial and not self.resume and self.path.exists():
            shutil.rmtree(self.path)
        if self.path == self._target and not self.resume and is_used(self.path):  # written to meanwhile
            raise ConfigError(_occupied(self.output))
        self._created = True
        self.path.mkdir(exist_ok=True)
        atomic_write(self.path / RUN_FILE, yaml.safe_dump({COMMAND: self.command} | settings, sort_keys=False))

    def finish(self) -> None:
        """The run is whole: let it take the place of an older one, and release the folder.

        Raises ConfigError if somebody wrote into the folder meanwhile; the run is then kept where it is.
        """
        if self.is_writer() and self.path == self._partial:
            if {entry.name for entry in _entries(self._target)} - self._older:
                self._created = False  # what is finished is kept
                raise ConfigError(
                    f"{self.output} was written to by somebody else meanwhile; what is finished is in {self.path}"
                )
            self._partial.rename(self._target / _WHOLE)
            self._move_up()
        self.path, self._created = self._target, False
        self.release()

    def release(self) -> None:
        """Let other processes have the folder; one that was made for nothing goes."""
        if self._lock is None:
            return
        self._lock.release()
        self._lock = None
        with suppress(OSError):  # one that is not empty stays, and so do those above it
            for folder in self._made:
                folder.rmdir()

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._created and not self.resumable:
            shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def _choose_path(self, resume: bool, overwrite: bool) -> Path:
        if resume and overwrite:
            raise ConfigError("--resume goes on with what is in the folder, --overwrite replaces it: give one of them")
        require_folder(self.output)
        if resume:
            return self._path_to_resume()
        if is_used(self._partial):
            self._require_replaceable_attempt(overwrite)
        if is_used(self._target):
            if not overwrite:
                self._require_not_in_use()
                raise ConfigError(_occupied(self.output))
            self._require_replaceable()
            return self._partial
        return self._target if self.resumable else self._partial

    def _path_to_resume(self) -> Path:
        for folder in (self._partial, self._target):
            if is_used(folder):
                if not (folder / RUN_FILE).is_file():
                    raise ConfigError(f"{folder} holds no run to resume (there is no {RUN_FILE} in it)")
                return folder
        raise ConfigError(f"{self.output} holds no run to resume: leave out --resume to start one")

    def _require_replaceable_attempt(self, overwrite: bool) -> None:
        """An unfinished attempt is deleted if that was asked for, or if its command is this one and cannot resume."""
        command = read_run(self._partial)[COMMAND]
        if not overwrite and (self.resumable or command != self.command):
            self._require_not_in_use()
            raise ConfigError(
                f"{self._partial} holds an unfinished run of {command!r} that was to become {self.output}: go on with "
                "it by the same command with --resume, or start anew with --overwrite"
            )

    def _require_replaceable(self) -> None:
        """Raise ConfigError unless the folder is a run of ours, and nothing else."""
        try:
            read_run(self._target)
        except ConfigError as error:
            raise ConfigError(
                f"--overwrite replaces runs only, and {self.output} is none ({error}); choose another folder"
            ) from error
        if other := next(_runs_within(self._target), None):
            raise ConfigError(f"{self.output} holds another run, {other}, which would be lost; choose another folder")

    def _require_not_in_use(self) -> None:
        if (self._target / LOCK_FILE).exists() and self.is_writer():
            FolderLock(self._target).release()

    def _complete_moves(self) -> None:
        """Mend what a process left that was killed while it moved a finished run up."""
        if self.is_writer() and any((self._target / name).exists() for name in (_WHOLE, _MOVING, _REPLACED)):
            with FolderLock(self._target):
                self._move_up()

    def _move_up(self) -> None:
        """The moves of a finished run, from wherever they were cut short."""
        whole, moving, replaced = (self._target / name for name in (_WHOLE, _MOVING, _REPLACED))
        if whole.exists():
            replaced.mkdir(exist_ok=True)
            for old in _entries(self._target):
                old.rename(replaced / old.name)
            whole.rename(moving)
        if moving.exists():
            for new in moving.iterdir():
                new.rename(self._target / new.name)
            moving.rmdir()
        if replaced.exists():
            shutil.rmtree(replaced)


def require_folder(output: Path) -> None:
    """Raise ConfigError unless the output is a folder that can be written to, or one can be made there."""
    target = resolve_links(output)
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{output} is a file; choose another output folder")
    nearest = next(folder for folder in (target, *target.parents) if os.path.lexists(folder))
    if not nearest.is_dir():
        raise ConfigError(f"{output} cannot be made: {nearest} is a file; choose another output folder")
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f"{output} cannot be written: no permission for {nearest}")


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
    """Whether there is anything in the folder, but for what a process that works there has put aside."""
    return folder.is_dir() and bool(_entries(folder))


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name not in _OURS]


def _runs_within(folder: Path) -> Iterator[Path]:
    """Folders further down that hold runs of their own."""
    for below, folders, files in os.walk(folder):
        if Path(below) == folder:
            folders[:] = [name for name in folders if name not in _OURS]
        elif RUN_FILE in files:
            yield Path(below)
