"""Counts the instructions of the kernels for 64-bit ARM under qemu's user mode, with NEON and in portable code:

    python benchmarks/neon.py [--lengths 128 512] [--heads 8] [--dim 64] [--output FILE]

Needs a cross compiler, qemu-user with plugins (7.2 of Debian 12), and a compiler for its plugin. In brackets are
instructions that compute on vectors: processors start two to four of them in a cycle. An emulator measures no time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from agreement import ROUNDED, require_close
from compiler import shared_library
from inputs import Inputs, gaussian
from report import Report, progress
from require_tests import ROOT
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import QuantParams, integer_attention

sys.path.append(str(ROOT))
from tests.attention.aarch64 import emulator

# Instruction set and processor of each column.
COLUMNS = {
    "portable": ("portable", emulator.PLAIN),
    "NEON": ("neon", emulator.PLAIN),
    "NEON, dot products": ("neon", emulator.DOTPROD),
}


class Count(NamedTuple):
    """Executed instructions, and those that compute on vectors or floats."""

    all: int
    vector: int

    def __sub__(self, other: Count) -> Count:
        return Count(self.all - other.all, self.vector - other.vector)

    def __str__(self) -> str:
        return f"{self.all / 1e6:.2f} ({self.vector / 1e6:.2f})"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if reason := emulator.missing():
        raise SystemExit(f"{reason}: nothing to count")
    torch.set_num_threads(1)
    report = Report(options.output)
    report.line(f"\n## Instructions on 64-bit ARM, millions\n\n{options.heads} heads of {options.dim}, {tools()}.")
    report.header(["call", "tokens", *COLUMNS, "portable / NEON", "portable / NEON, dot products"])
    built, plugin = emulator.build(), counter()
    for length in options.lengths:
        for name, call in calls(gaussian(1, options.heads, length, options.dim)).items():
            progress(f"{name}, {length} tokens")
            tolerance = 0.0 if name.startswith("int") else ROUNDED
            counts = {column: count(call, tolerance, built, plugin, *of) for column, of in COLUMNS.items()}
            portable, *others = (found.all for found in counts.values())
            ratios = [f"{portable / other:.2f}" for other in others]
            report.row([name, str(length), *map(str, counts.values()), *ratios])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--output", type=Path, help="write the table here too; a new file")
    return parser.parse_args(arguments)


def calls(inputs: Inputs) -> dict[str, Callable[[], Tensor]]:
    def backward() -> Tensor:
        leaves = [t.detach().requires_grad_() for t in inputs.qkv]
        inhibitor_attention(*leaves, **inputs.scalars, engine="cpu").sum().backward()
        return leaves[0].grad

    sides: dict[str, Callable[[], Tensor]] = {
        "float32, forward": partial(inhibitor_attention, *inputs.qkv, **inputs.scalars, engine="cpu"),
        "float32, forward and backward": backward,
    }
    for bits in (8, 16):
        qparams = QuantParams.from_tensors(*inputs.qkv, **inputs.scalars, bits=bits)
        sides[f"int{bits}"] = partial(integer_attention, *inputs.qkv, qparams, engine="cpu")
    return sides


def counter() -> Path:
    """The plugin. Raises SystemExit without a compiler that takes it."""
    version = re.search(r"version (\d+)", _output(emulator.EMULATOR))
    assert version is not None
    api = 1 if int(version[1]) < 9 else 2  # what this qemu still takes
    plugin = shared_library("instructions.cpp", f"-DQEMU_PLUGIN_VERSION={api}")
    if plugin is None:
        raise SystemExit("the plugin that counts does not compile: nothing to count")
    return plugin


def tools() -> str:
    return ", ".join(_output(tool).splitlines()[0] for tool in (emulator.COMPILER, emulator.EMULATOR))


def _output(tool: str) -> str:
    return subprocess.run([tool, "--version"], check=True, capture_output=True, text=True).stdout


def count(
    call: Callable[[], Tensor], tolerance: float, built: emulator.Built, plugin: Path, isa: str, cpu: str
) -> Count:
    """Of one call: two of them less one, by which what surrounds the kernels cancels out.

    Raises SystemExit unless it gives what this machine's own kernels give.
    """
    expected = call()

    def check() -> None:
        require_close(isa, call(), expected, tolerance)

    return _run(check, 2, built, plugin, isa, cpu) - _run(check, 1, built, plugin, isa, cpu)


def _run(call: Callable[[], None], times: int, built: emulator.Built, plugin: Path, isa: str, cpu: str) -> Count:
    with tempfile.NamedTemporaryFile("r") as counts:
        server = emulator.Server(built, cpu, isa, options=("-plugin", f"file={plugin},counts={counts.name}"))
        handle = emulator.Handle({isa: server})
        emulated = library.Library(handle, isa, [isa], "one thread")  # type: ignore[arg-type]
        with mock.patch.object(library, "_loaded", emulated):
            for _ in range(times):
                call()
        handle.close()
        return Count(*map(int, counts.read().split()))


if __name__ == "__main__":
    main()
