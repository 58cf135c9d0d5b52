"""The GPU benchmark runs whole in Triton's interpreter; the kernels compile for every GPU that they are meant for."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import REPOSITORY

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)


def run(*command: str, **environment: str) -> str:
    here = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=here | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(table: str) -> list[list[str]]:
    return [line[2:-2].split(" | ") for line in table.splitlines() if line.startswith("|") and "---" not in line]


@pytest.mark.slow
def test_the_whole_table_in_the_interpreter() -> None:
    code = """
import sys; sys.path.insert(0, "benchmarks")
import attention, gpu
from inhibitor_transformers.attention.triton import tile_config
attention.require_passing_tests = lambda **_: None
gpu.issue_slots = lambda *_, **__: 4.25
small = dict.fromkeys(("forward", "bwd_dq", "bwd_dkdv"), {256: tile_config.TileConfig(16, 16, 16, 1, 1)})
tile_config.DEFAULTS.update(small)
attention.main(["--device", "cpu:0", "--shape", "1,1,8,8", "1,2,5,4", "--quick", "--seconds", "0"])
"""
    forward_and_both = run("-c", code, TRITON_INTERPRET="1")
    assert "NO GPU" in forward_and_both
    header, *measured = rows(forward_and_both)
    assert [row[0] for row in measured if row != header] == ["1×1×8×8", "1×2×5×4"] * 2
    assert all(re.match(r"\d", cell) for row in measured if row != header for cell in row[1:])


@pytest.mark.slow
def test_the_compiled_code(tmp_path: Path) -> None:
    """Nothing spills in the loops, and an element costs what the roofline is computed from."""
    table = run("benchmarks/triton_code.py", "--dims", "64", TRITON_CACHE_DIR=str(tmp_path))
    header, *loops = rows(table)
    at = {name: header.index(name) for name in header}
    arithmetic = {(i, row[at["loop"]]): float(row[at["arithmetic"]]) for i, row in enumerate(loops)}
    assert [name for _, name in arithmetic] == [
        *("distances", "shrunk sums"),
        *("distances", "gradients of scores", "gradients of queries"),
        *("distances", "gradients of scores", "gradients of values", "gradients of keys"),
        *("distances", "gradients of scores"),
    ]
    limits = {"distances": 2.0, "shrunk sums": 2.3, "gradients of values": 2.1}
    for (_, name), count in arithmetic.items():
        assert count <= limits.get(name, 4.0)
    assert all(int(row[at["spilled bytes"]]) <= 16 for row in loops if row[at["spilled bytes"]])


@pytest.mark.slow
def test_compiles_for_every_kind_of_gpu(tmp_path: Path) -> None:
    table = run("benchmarks/triton_code.py", "--targets", TRITON_CACHE_DIR=str(tmp_path))
    compiled = {row[0]: row[1:] for row in rows(table)}
    assert compiled.keys() >= {"cuda 8.0", "cuda 9.0", "cuda 10.0", "hip gfx942", "hip gfx1100"}
    assert compiled.keys() >= {
        "unmasked",
        "attention mask",
        "causal, not cached",
        "unsigned, not centered",
        "not cached",
    }


def test_gpu_tests_are_required_by_the_gpu_benchmark(script, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def fail(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(script("require_tests").subprocess, "run", fail)
    with pytest.raises(SystemExit, match="the tests of the operation fail"):
        script("attention").main(["--device", "cuda"])
    assert any(part.endswith("attention/triton") for part in commands[0])
    assert commands[0][commands[0].index("-m", 3) + 1] == ""  # those marked gpu as well


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["cdist", "SDPA bf16"])
def test_a_side_that_computes_something_else_is_not_timed(script, name: str, training: bool) -> None:
    import torch

    gpu, device = script("gpu"), torch.device("cpu")
    side, dtype = gpu.SIDES[name]
    inputs = gpu.gaussian(1, 2, 9, 8)
    seen = gpu.on(inputs, device, dtype)
    gpu.require_right(name, gpu.call(side, inputs, dtype, device, training=training), seen, training=training)
    other = gpu.call(side, gpu.gaussian(1, 2, 9, 8), dtype, device, training=training)
    with pytest.raises(SystemExit, match=f"{name}.* computes something else"):
        gpu.require_right(name, other, seen, training=training)
