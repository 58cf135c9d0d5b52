"""Sizes of tiles and of the grid: shipped defaults by head dimension, and a search for better ones where asked.

The search is off, so that no first call stalls: INHIBITOR_TUNE=1 turns it on. Its key is the kernel, the head
dimensions and the dtype; no batch size or length ever starts another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

TUNE_VARIABLE = "INHIBITOR_TUNE"
SMALLEST_DIM_BLOCK = 16  # lanes


@dataclass(frozen=True)
class TileConfig:
    """rows × columns of a tile, threads that share its columns, warps and resident programs of a multiprocessor."""

    rows: int = 64
    columns: int = 64
    lanes: int = 16
    warps: int = 4
    programs: int = 3


# By kernel and the largest head dimension served. Chosen from the compiled code for compute capability 9.0: next to no
# spills, and as many programs as the registers of a multiprocessor hold at once (benchmarks/triton_code.py): with more,
# a persistent grid would run in two waves.
DEFAULTS: dict[str, dict[int, TileConfig]] = {
    "forward": {64: TileConfig(), 256: TileConfig(programs=2)},
    "bwd_dq": {128: TileConfig(programs=2), 256: TileConfig(rows=32, programs=2)},
    "bwd_dbias": {128: TileConfig(programs=2), 256: TileConfig(rows=32, programs=2)},  # those of bwd_dq
    "bwd_dkdv": {
        64: TileConfig(programs=2),
        128: TileConfig(rows=32, programs=2),
        256: TileConfig(rows=32, warps=8, programs=1),
    },
}
CANDIDATES = tuple(
    TileConfig(rows, columns, 16, warps, programs)
    for rows, columns, warps in ((32, 64, 4), (64, 64, 4), (64, 128, 4), (128, 64, 8), (128, 128, 8))
    for programs in (2, 3, 4)
)

_found: dict[tuple[Any, ...], TileConfig] = {}


def default(kernel: str, dim: int) -> TileConfig:
    """The shipped sizes for a head of `dim` features (the larger of query's and value's)."""
    return next(config for most, config in DEFAULTS[kernel].items() if dim <= most)


def choose(
    kernel: str, dim: int, value_dim: int, dtype: torch.dtype, time_with: Callable[[TileConfig], float]
) -> TileConfig:
    """The shipped sizes, or with INHIBITOR_TUNE=1 those for which `time_with` is least, remembered for the process.

    `time_with` runs the kernel; it returns infinity for sizes that the device cannot run.
    """
    if os.environ.get(TUNE_VARIABLE) != "1":
        return default(kernel, max(dim, value_dim))
    key = (kernel, dim, value_dim, dtype)
    if key not in _found:
        _found[key] = min((default(kernel, max(dim, value_dim)), *CANDIDATES), key=time_with)
    return _found[key]


def dim_block(dim: int) -> int:
    """The power of two that holds `dim` features."""
    return max(1 << (dim - 1).bit_length(), SMALLEST_DIM_BLOCK)
