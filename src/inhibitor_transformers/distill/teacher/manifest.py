"""What the contents of a teacher cache were made with."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ...common.atomic import atomic_write
from ...common.inputs import Sources, require_apart
from ...common.settings import ConfigError, load_record, require

CACHE = "teacher cache"  # what messages and `Sources` call it
_MANIFEST = "made_with.json"


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
    there = load_record(file, "delete this folder or name another: what is in it cannot be told any more")
    if differing := [name for name in manifest if there.get(name) != manifest[name]]:
        raise ConfigError(
            f"the {CACHE} {folder} was made with another {' and another '.join(differing)}; name another folder, "
            "or delete this one"
        )


def write_manifest(folder: Path, manifest: dict[str, str]) -> None:
    """Note in `folder` what its contents are made with; call it before anything else is written there."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / _MANIFEST, json.dumps(manifest, indent=2))
