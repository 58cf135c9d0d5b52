"""Locks a folder for one process."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from .errors import ConfigError

LOCK_FILE = ".lock"
PATIENCE = 2.0  # seconds: a worker of a killed process takes a moment to end


class FolderLock:
    """Holds `folder`/.lock until it is released. The system frees it however the process ends, kill −9 included.

    Raises ConfigError if another process, or another object of this one, holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / LOCK_FILE
        self._lock = FileLock(self.file, timeout=PATIENCE, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise ConfigError(f"{folder} is in use by another run: wait for it, or choose another folder") from None

    def release(self) -> None:
        """Let others have the folder; a finished one keeps no lock file."""
        if self._lock.is_locked:
            self.file.unlink(missing_ok=True)  # while it is held, so that no other process has it open
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
