"""A teacher cache on disk: the manifest that says what it was made with, and its arrays, one .npy each."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ...common.atomic import atomic_write
from ...common.inputs import Sources, require_apart
from ...common.settings import ConfigError, load_record, require

CACHE = "teacher cache"  # what messages and `Sources` call it
_MANIFEST = "made_with.json"
_GIB = 1024**3


def require_cache_folder(folder: Path | None, inputs: Sources) -> None:
    """Raise ConfigError if the cache is, contains or lies inside another input, or cannot be written as a folder.

    folder: None for no cache. inputs: what the run reads, with or without its cache.
    """
    if folder is None:
        return
    require_apart(folder, {name: source for name, source in inputs.items() if name != CACHE})
    place = Path(os.path.abspath(folder.expanduser()))
    there = next(path for path in (place, *place.parents) if os.path.lexists(path))
    require(there.is_dir(), f"the {CACHE} {folder} cannot be a folder: {there} is a file; name another")
    require(os.access(there, os.W_OK), f"the {CACHE} {folder} cannot be written: {there} cannot be; name another")


def require_manifest(folder: Path, manifest: dict[str, str]) -> None:
    """Raise ConfigError, naming what differs, if the contents of `folder` were made with something else."""
    file = folder / _MANIFEST
    if not file.exists():
        return
    there = load_record(file, "delete this folder or name another: its contents cannot be identified any more")
    if differing := [name for name in manifest if there.get(name) != manifest[name]]:
        raise ConfigError(
            f"the {CACHE} {folder} was made with another {' and another '.join(differing)}; name another folder, "
            "or delete this one"
        )


def write_manifest(folder: Path, manifest: dict[str, str]) -> None:
    """Note in `folder` what its contents are made with; call it before anything else is written there."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / _MANIFEST, json.dumps(manifest, indent=2))


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
