"""Import scripts by name: while a test runs, their folder is on the path, as when they are started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY

Script = Callable[[str], ModuleType]


def scripts_of(folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """What imports a script of a folder of the repository by name; its modules are forgotten afterwards."""
    path = REPOSITORY / folder
    names = {file.stem for file in path.glob("*.py")}
    assert not names & sys.modules.keys(), f"a script of {folder} has the name of another module"
    monkeypatch.syspath_prepend(str(path))
    yield import_module
    for name in names:
        sys.modules.pop(name, None)
