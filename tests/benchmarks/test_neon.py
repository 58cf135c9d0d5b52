"""The count of instructions on an emulated processor: exact, so what it says can be asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhibitor_transformers.attention.cpu import library
from tests.attention.aarch64 import emulator
from tests.benchmarks.test_benchmarks import tables
from tests.scripts import Script

if reason := library.unavailable() or emulator.missing():
    pytest.skip(reason, allow_module_level=True)


def test_neon_takes_fewer_instructions(script: Script, tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    script("neon").main(["--lengths", "64", "--heads", "1", "--output", str(output)])
    (header, *rows) = tables(output)[0]
    assert header[:5] == ["call", "tokens", "portable", "NEON", "NEON, dot products"]
    assert [row[0] for row in rows] == ["float32, forward", "float32, forward and backward", "int8", "int16"]
    for row in rows:
        portable, neon, dotprod = (float(cell.split()[0]) for cell in row[2:5])
        assert dotprod <= neon < portable, row
        assert (dotprod < neon) == (row[0] == "int8"), row
