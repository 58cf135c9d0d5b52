"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def require_free(output: Path, *, overwrite: bool) -> None:
    """Raise ValueError unless `output` is an empty folder, is not there, or is a folder that `overwrite` gives away."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; choose another output folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise ValueError(f"{output} exists; add --overwrite to replace it, or choose another folder")


@contextmanager
def whole_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder beside `output` to write into, which takes its place when the block ends.

    If the block fails, what was there before is untouched and nothing new stays. Raises as `require_free`.
    """
    require_free(output, overwrite=overwrite)
    output = output.resolve()
    half = output.with_name(f"{output.name}.half-{os.getpid()}")
    half.mkdir(parents=True)
    try:
        yield half
        require_free(output, overwrite=overwrite)  # it may have come into being meanwhile
        if output.exists():
            shutil.rmtree(output)
        half.rename(output)
    finally:
        shutil.rmtree(half, ignore_errors=True)
