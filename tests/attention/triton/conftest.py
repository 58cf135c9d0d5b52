"""On a GPU the kernels themselves, elsewhere Triton's interpreter on CPU tensors (tests/conftest.py)."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

from inhibitor_transformers.attention.triton import engine, tile_config

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


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if engine.is_interpreted() else "cuda")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that a few dozen rows make several: the interpreter takes time for each of their elements."""
    monkeypatch.setattr(
        tile_config, "DEFAULTS", {kernel: {engine.LARGEST_DIM: SMALL} for kernel in tile_config.DEFAULTS}
    )
