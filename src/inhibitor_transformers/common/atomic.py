"""Writes files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def atomic_write(path: Path, text: str) -> Path:
    """Write `text` as UTF-8 under another name, then rename; an older file is replaced. Returns `path`."""
    half = path.with_name(f"{path.name}.half-{os.getpid()}")
    try:
        # A file name that is not valid text comes as lone surrogates, which UTF-8 does not know.
        half.write_bytes(text.encode("utf-8", errors="backslashreplace"))
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path
