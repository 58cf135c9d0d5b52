"""The engine `cpu` with kernels on an emulated processor in place of this machine's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from inhibitor_transformers.attention.cpu import library
from tests.attention.aarch64 import emulator
from tests.attention.aarch64.emulator import DOTPROD, PLAIN
from tests.attention.engine_cases import instruction_set
from tests.attention.integer import test_engines


@pytest.fixture(scope="session")
def library_on() -> Iterator[Callable[[str], library.Library]]:
    """The library on a processor that is emulated."""
    if reason := emulator.missing():
        pytest.skip(reason)
    built, opened = emulator.build(), {}

    def on(cpu: str) -> library.Library:
        if cpu not in opened:
            opened[cpu] = emulator.open_library(built, cpu)
        return opened[cpu]

    yield on
    for kernels in opened.values():
        kernels.handle.close()


@pytest.fixture(params=["neon", "portable"])
def isa(request: pytest.FixtureRequest, library_on, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each instruction set in turn, on a processor with dot products."""
    monkeypatch.setattr(library, "_loaded", library_on(DOTPROD))
    with instruction_set(request.param):
        yield request.param


@pytest.fixture(scope="module", params=[PLAIN, DOTPROD])
def processor(request: pytest.FixtureRequest, library_on) -> Iterator[str]:
    """Each processor in turn; tests of integers try its instruction sets themselves."""
    kernels = library_on(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "_loaded", kernels)
        patch.setattr(test_engines, "ISAS", kernels.isas)
        yield request.param
