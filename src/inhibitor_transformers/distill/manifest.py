"""What the contents of a teacher cache were made with."""

from __future__ import annotations

import json
from pathlib import Path

from ..common.atomic import atomic_write
from .settings import ConfigError, load_record

_MANIFEST = "made_with.json"


def require_manifest(folder: Path, manifest: dict[str, str]) -> None:
    """Raise ConfigError, naming what differs, if the contents of `folder` were made with something else."""
    file = folder / _MANIFEST
    if not file.exists():
        return
    there = load_record(file, "delete this folder or name another: what is in it cannot be told any more")
    if differing := [name for name in manifest if there.get(name) != manifest[name]]:
        raise ConfigError(
            f"the teacher cache {folder} was made with another {' and another '.join(differing)}; name another folder, "
            "or delete this one"
        )


def write_manifest(folder: Path, manifest: dict[str, str]) -> None:
    """Note in `folder` what its contents are made with; call it before anything else is written there."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / _MANIFEST, json.dumps(manifest, indent=2))
