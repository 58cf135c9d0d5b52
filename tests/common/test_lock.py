"""A folder is one process's at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhibitor_transformers.common import lock
from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.common.lock import LOCK_FILE, FolderLock


@pytest.fixture(autouse=True)
def _without_patience(monkeypatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.0)


def test_a_second_holder_is_refused_until_the_first_has_released(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    with pytest.raises(ConfigError, match=f"^{tmp_path} is in use by another run"):
        FolderLock(tmp_path)
    first.release()
    with FolderLock(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
    assert list(tmp_path.iterdir()) == []


def test_to_release_twice_takes_the_lock_from_nobody(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    first.release()
    second = FolderLock(tmp_path)
    first.release()
    with pytest.raises(ConfigError, match="in use"):
        FolderLock(tmp_path)
    second.release()
