"""On a GPU the kernels themselves, elsewhere Triton's interpreter on CPU tensors (tests/conftest.py)."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention.triton import engine, tile_config
from tests.attention.engine_cases import outputs

SMALL = tile_config.TileConfig(rows=16, columns=32, lanes=16, warps=1, programs=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    for item in items:
        if not str(item.path).startswith(here):
            continue
        if importlib.util.find_spec("triton") is None:
            item.add_marker(pytest.mark.skip(reason="Triton is not installed"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(
                pytest.mark.skip(reason="NO GPU HERE: the kernels ran in the interpreter only, on small shapes")
            )


def assert_fresh_memory_does_not_matter(tensors: dict[str, Tensor], grad: Tensor, **options: Any) -> None:
    """Scratch memory, what is saved and results begin as NaN, and output and gradients keep their bits."""
    clean = outputs(tensors, grad, "triton", torch.float32, **options)
    torch.use_deterministic_algorithms(True)  # fills what is allocated
    try:
        assert torch.empty(1, device=grad.device).isnan()
        poisoned = outputs(tensors, grad, "triton", torch.float32, **options)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(clean[name], poisoned[name]) for name in clean)


def assert_programs_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, tensors: dict[str, Tensor], grad: Tensor, **options: Any
) -> None:
    """Output and gradients have the same bits for any number of programs."""
    from inhibitor_transformers.attention.triton import launch  # needs Triton

    results = []
    for programs in (1, 2, 1000):
        monkeypatch.setattr(launch, "resident", lambda device, per_multiprocessor, n=programs: n)
        results.append(outputs(tensors, grad, "triton", torch.float32, **options))
    for other in results[1:]:
        assert all(torch.equal(other[name], results[0][name]) for name in other)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if engine.is_interpreted() else "cuda")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that a few dozen rows make several: the interpreter takes time for each of their elements."""
    monkeypatch.setattr(
        tile_config, "DEFAULTS", {kernel: {engine.LARGEST_DIM: SMALL} for kernel in tile_config.DEFAULTS}
    )
