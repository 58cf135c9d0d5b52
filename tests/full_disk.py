"""A disk without room, as far as this process can tell: no file grows beyond a limit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """While inside, writing beyond `size` bytes of any file fails (EFBIG, where a full disk gives ENOSPC)."""
    resource = pytest.importorskip("resource", reason="this system limits no sizes of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
