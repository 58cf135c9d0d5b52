"""One process is the main one and waits for nobody; two that train alone are refused."""

from __future__ import annotations

import pytest

from inhibitor_transformers.common.distributed import (
    is_main_process,
    on_main_process,
    require_joined,
    wait_for_everyone,
)


def test_a_process_by_itself():
    lines: list[str] = []
    assert is_main_process()
    wait_for_everyone()
    on_main_process(lines.append)("done")
    assert lines == ["done"]


def test_other_processes_are_silent(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("inhibitor_transformers.common.distributed.is_main_process", lambda: False)
    on_main_process(lines.append)("done")
    assert lines == []


def test_processes_that_would_not_train_together(monkeypatch):
    """Without being told to use CPUs, accelerate lets each do the whole run, and all wrote into one folder."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    require_joined(2)
    with pytest.raises(ValueError, match="2 processes were started, of which each would train alone"):
        require_joined(1)


def test_a_world_size_without_a_launcher_means_nothing(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    require_joined(1)
