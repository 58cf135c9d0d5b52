"""Values for every token of many rows, on disk: one .npy per kind of value, (tokens of all rows, dim)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ...common.settings import ConfigError

_GIB = 1024**3


@contextmanager
def writing_arrays(
    folder: Path, names: Sequence[str], shape: tuple[int, int], dtype: np.dtype
) -> Iterator[Sequence[IO[bytes]]]:
    """Files that take the rows of `names` from front to back; in their place only once all are complete."""
    half = Path(tempfile.mkdtemp(prefix="half-", dir=folder))
    try:
        with ExitStack() as stack:
            files = [stack.enter_context((half / f"{name}.npy").open("wb")) for name in names]
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            for file in files:
                np.lib.format.write_array_header_1_0(file, header)
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for name in names:
            (half / f"{name}.npy").replace(folder / f"{name}.npy")
    finally:
        shutil.rmtree(half, ignore_errors=True)


def open_array(folder: Path, name: str) -> np.ndarray:
    """A written array, mapped into memory: what is not read takes none. Raises ConfigError if the file is damaged."""
    file = folder / f"{name}.npy"
    try:
        return np.load(file, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{file} is damaged; delete it, and it is computed again") from error


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise ConfigError unless the disk of `folder` has `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(f"{what} needs {needed / _GIB:.1f} GiB in {folder}, where {free / _GIB:.1f} GiB are free")


def in_gib(size: int) -> str:
    """ "1.25 GiB"."""
    return f"{size / _GIB:.2f} GiB"
