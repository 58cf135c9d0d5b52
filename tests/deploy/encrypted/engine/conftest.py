"""Tiny plans, compiled once, clients with keys, and servers. All is skipped where concrete-python is not installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from inhibitor_transformers.deploy.encrypted.client_part import ClientPart
from tests.deploy.encrypted.engine.tiny import LABELS, tiny_plan

INHIBIT = Path(sys.executable).with_name("inhibit")


class _Skipped(pytest.Module):
    def collect(self) -> list[pytest.Item]:
        pytest.skip("concrete-python is not installed: make test-encrypted", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The tests of this folder import the engine first of all."""
    return None if find_spec("concrete") else _Skipped.from_parent(parent, path=module_path)


class Folders(NamedTuple):
    """A compiled plan's folder and that of a client with keys."""

    plan: Path
    client: Path


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Folders]:
    """Plan, compile and make keys, for the tiny plan of a seed."""
    from inhibitor_transformers.deploy.encrypted.engine.client_folder import ClientFolder
    from inhibitor_transformers.deploy.encrypted.engine.compiled import compile_folder

    def run(seed: int) -> Folders:
        folder = tmp_path_factory.mktemp(f"seed{seed}")
        plan = tiny_plan(seed)
        plan.save(folder / "plan", ClientPart.of(plan, LABELS).files())
        compile_folder(folder / "plan", folder / "client")
        ClientFolder.load(folder / "client").make_keys()
        return Folders(folder / "plan", folder / "client")

    return run


@pytest.fixture(scope="session")
def shared(make: Callable[[int], Folders]) -> Folders:
    """For tests that change nothing in it."""
    return make(0)


@pytest.fixture(scope="session")
def other(make: Callable[[int], Folders]) -> Folders:
    """Of another plan."""
    return make(1)


@pytest.fixture
def folders(shared: Folders, tmp_path: Path) -> Folders:
    """A copy to be damaged."""
    for name in ("plan", "client"):
        shutil.copytree(getattr(shared, name), tmp_path / name)
    return Folders(tmp_path / "plan", tmp_path / "client")


class Running(NamedTuple):
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen[str]


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """`inhibit encrypted serve` of a plan's folder, or another command, once it says its URL."""
    started: list[subprocess.Popen[str]] = []

    def run(plan: Path, *options: str, command: tuple[str, ...] = (str(INHIBIT), "encrypted", "serve")) -> Running:
        port = free_port()
        process = subprocess.Popen(
            [*command, str(plan), "--port", str(port), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == f"serving {plan} at http://127.0.0.1:{port}; Ctrl-C stops it\n", process.communicate()
        return Running(f"http://127.0.0.1:{port}", process)

    yield run
    for process in started:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
