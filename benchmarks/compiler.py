"""Compiles the small C++ sources beside it, into a folder that is deleted when the benchmark ends."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCES = Path(__file__).parent


@functools.cache
def shared_library(source: str, *flags: str) -> Path | None:
    """Path of the library built from `source`; None without a compiler ($CXX or c++) that takes it."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return None
    path = _folder() / f"{'_'.join([Path(source).stem, *flags])}.so"
    command = [compiler, "-std=c++17", "-O3", "-shared", "-fPIC", *flags, str(_SOURCES / source), "-o", str(path)]
    return path if subprocess.run(command, check=False, capture_output=True).returncode == 0 else None


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="inhibitor-benchmark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
