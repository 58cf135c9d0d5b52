"""Peak memory of one call above its inputs and results, counted exactly: every malloc of a fresh process is seen.

Run as a script it is that process: python memory.py SIDE BATCH HEADS LENGTH DIM THREADS.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from compiler import shared_library

from inhibitor_transformers.attention.cpu import library


def extra_memory(side: str, shape: tuple[int, ...], threads: int) -> tuple[float, float] | None:
    """MiB of a forward call and of forward + backward of `side` ("fused" or "softmax"); None if not Linux with glibc.

    Scratch memory that the engine keeps between calls is counted; what the first tiny call needs once is not.
    """
    counter = allocation_counter()
    if counter is None:
        return None
    run = subprocess.run(
        [sys.executable, str(Path(__file__)), side, *map(str, (*shape, threads))],
        env=os.environ | {"LD_PRELOAD": str(counter), library.ISA_VARIABLE: library.load().isa},
        check=True,
        capture_output=True,
        text=True,
    )
    forward, both = (int(number) / 2**20 for number in run.stdout.split())
    return forward, both


def allocation_counter() -> Path | None:
    """What LD_PRELOAD has to name for `peak_of` to work; None if not Linux with glibc."""
    return shared_library("allocations.cpp") if sys.platform == "linux" else None


def peak_of(call: Callable[[], object]) -> int:
    """Bytes that a call holds at its peak beyond what was held before, its results included."""
    counter = ctypes.CDLL(None)
    counter.allocations_peak.restype = ctypes.c_int64
    counter.allocations_forget()
    counter.allocations_restart_peak()
    kept = call()
    del kept
    return int(counter.allocations_peak())


def _main() -> None:
    import baselines
    from inputs import gaussian

    attention: baselines.Attention = getattr(baselines, sys.argv[1])
    *shape, threads = map(int, sys.argv[2:])
    torch.set_num_threads(threads)
    counter = ctypes.CDLL(None)
    counter.allocations_peak.restype = ctypes.c_int64

    def peak(call: Callable[[], list[torch.Tensor]]) -> int:
        counter.allocations_restart_peak()
        results = call()
        return counter.allocations_peak() - sum(t.untyped_storage().nbytes() for t in results)

    def measure(batch: int, heads: int, length: int, dim: int) -> tuple[int, int]:
        *qkv, scalars = gaussian(batch, heads, length, dim)
        leaves = [t.clone().requires_grad_() for t in qkv]
        grad = torch.randn_like(qkv[0])

        def both() -> list[torch.Tensor]:
            out = attention(*leaves, None, scalars)
            return [out.detach(), *torch.autograd.grad(out, leaves, grad)]

        counter.allocations_forget()
        with torch.no_grad():
            forward = peak(lambda: [attention(*qkv, None, scalars)])
        return forward, peak(both)

    measure(1, 1, 8, 8)
    print(*measure(*shape))


if __name__ == "__main__":
    _main()
