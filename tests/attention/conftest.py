"""Fixtures of the tests of attention."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from inhibitor_transformers.attention.cpu import library
from tests.attention.engine_cases import instruction_set


@pytest.fixture(params=[] if library.unavailable() else library.load().isas)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of the CPU engine in turn, seeded."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small gain nothing from more, and a busy machine loses much
    with instruction_set(request.param):
        yield request.param
    torch.set_num_threads(threads)
