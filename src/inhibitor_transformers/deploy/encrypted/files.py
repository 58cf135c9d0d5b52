"""Files of plans, clients and keys: for their owner only, and there whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700


def sha256(content: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """The content of a JSON file."""
    return (json.dumps(value, indent=1) + "\n").encode()


def array_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of an .npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, **dict[str, Any](arrays))
    return file.getvalue()


def read_private(path: Path, digest: str) -> bytes:
    """The content of a file that is known by its SHA-256. Raises ValueError for any other content, or none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is absent") from None
    if sha256(content) != digest:
        raise ValueError(f"{path} is damaged, or belongs to another folder: its SHA-256 is not the one written down")
    return content


def write_private(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, under another name first; an older one is replaced."""
    half = path.with_name(f"{path.name}.half-{os.getpid()}")
    try:
        # Created with its final mode: at no moment can others open it.
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path


def write_folder(
    folder: Path,
    json_files: Mapping[str, Mapping[str, Any]],
    array_files: Mapping[str, Mapping[str, Any]],
    other_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Make `folder` with these files, all or none. Raises ValueError if it exists or cannot be made."""
    require_new(folder)
    half = folder.with_name(f"{folder.name}.half-{os.getpid()}")
    half.mkdir(mode=PRIVATE_FOLDER)
    try:
        for name, value in json_files.items():
            write_private(half / name, json_bytes(value))
        for name, arrays in array_files.items():
            write_private(half / name, array_bytes(arrays))
        for name, content in (other_files or {}).items():
            write_private(half / name, content)
        half.replace(folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return folder


def require_new(folder: Path) -> None:
    """Raise ValueError unless `folder` can be made: nothing is there, in a folder that is."""
    if os.path.lexists(folder):
        raise ValueError(f"{folder} exists: name another folder")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"{folder}: the folder that it should be made in does not exist")


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file. Raises ValueError if it is absent or holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is absent") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file, without pickles. Raises ValueError if it is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ValueError(f"{path} is absent") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
