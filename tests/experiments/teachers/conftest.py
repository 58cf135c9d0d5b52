"""The scripts that make teachers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scripts import Script, scripts_of


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Import a module of the teachers' scripts by name."""
    yield from scripts_of("experiments/teachers", monkeypatch)
