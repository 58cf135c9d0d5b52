"""The benchmarks are scripts: their folder is on the path while a test runs, as when they are started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the benchmarks by name."""
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert not names & sys.modules.keys(), "a benchmark has the name of another module"
    monkeypatch.syspath_prepend(str(FOLDER))
    yield import_module
    for name in names:
        sys.modules.pop(name, None)
