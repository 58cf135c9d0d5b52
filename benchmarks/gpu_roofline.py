"""The roofline of a GPU: its copy bandwidth and its rate of additions, measured, and what the kernels need of both.

    python benchmarks/gpu_roofline.py [--multiprocessors 132] [--clock 1.98] [--bandwidth 4.8] [--output FILE]

computes the bounds on paper, without a GPU, from the vendor's numbers for a device (an H200 by default).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
import triton.language as tl
from report import Report
from timing import stopwatch
from torch import Tensor

from inhibitor_transformers.attention.call import Masks, Options, Tensors
from inhibitor_transformers.attention.triton import launch
from inhibitor_transformers.attention.triton.tile_config import default

SHAPES = ((32, 12, 128, 64), (8, 12, 512, 64), (4, 12, 1024, 64), (4, 12, 2048, 64), (4, 12, 4096, 64))
LANES = 128  # float32 additions of a multiprocessor in one cycle
COPIED = 1 << 30  # bytes
ADDITIONS = 1 << 14  # for each of a thread's registers


@triton.jit
def _add(out, count, BLOCK: tl.constexpr):
    """Independent chains of additions, 32 in each thread."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = at.to(tl.float32)
    for _ in tl.range(0, count, loop_unroll_factor=8):
        total = total + 1.5
    tl.store(out + at, total)


@dataclass(frozen=True)
class Limits:
    """Bytes copied (read and written both counted) and float32 additions, per second."""

    bytes: float
    additions: float


def limits(device: torch.device, copied: int = COPIED, additions: int = ADDITIONS) -> Limits:
    """Measured now, at the clocks of now; the best of five."""
    time_of = stopwatch(device)
    source = torch.randint(256, (copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    programs = 8 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    out = torch.empty(programs * 4096, device=device)

    def copy() -> None:
        target.copy_(source)

    def add() -> None:
        _add[(programs,)](out, additions, BLOCK=4096, num_warps=4)

    copy(), add()
    if not torch.equal(source, target) or out[1] - 1 != 1.5 * additions:
        raise SystemExit("what was copied or added is wrong: nothing is reported")
    return Limits(
        bytes=2 * copied / min(time_of(copy) for _ in range(5)),
        additions=out.numel() * additions / min(time_of(add) for _ in range(5)),
    )


def issue_slots(q: Tensor, capability: int, *, training: bool) -> float:
    """Issue slots of the arithmetic for an element (one feature of one query and key), counted in the compiled code
    that serves self-attention of the shape, dtype and device of q.

    A slot is one instruction of a warp; an instruction on the half-rate pipe counts twice where that pipe is the
    bottleneck (`triton_code.Loop.slots`). Loops that run twice, because the device has no room to keep what they
    computed, count twice.
    """
    from triton_code import examine  # needs kernels that are not interpreted

    heads, dim = q.shape[1], q.shape[3]
    tensors = Tensors(q, q, q, *[torch.ones(heads, device=q.device)] * 4)
    call = launch.Call(tensors, Masks(None, None), Options(64.0, is_causal=False, is_signed=True, center="mean"))
    short = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[q.dtype]
    total = 0.0
    for kernel in ("forward", "bwd_dq", "bwd_dkdv") if training else ("forward",):
        config = default(kernel, dim)
        of_loops = [loop.slots for loop in examine(kernel, dim, short, config, capability).loops]
        total += sum(of_loops)
        if kernel == "forward" and not call.caches_distances(config):
            total += of_loops[0]
        if kernel == "bwd_dq" and not call.caches_gradients(config):
            total += sum(of_loops[:2])
    return total


def least_seconds(q: Tensor, limit: Limits, slots_of_element: float, *, training: bool) -> tuple[float, float]:
    """Seconds that the bytes of inputs and results take at least, and the arithmetic."""
    batch, heads, length, dim = q.shape
    tensors = 4 + (8 if training else 0)  # q, k, v, out; again with g for the gradients of three
    return (
        tensors * q.numel() * q.element_size() / limit.bytes,
        slots_of_element * batch * heads * length * length * dim / limit.additions,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multiprocessors", type=int, default=132)
    parser.add_argument("--clock", type=float, default=1.98, help="GHz")
    parser.add_argument("--bandwidth", type=float, default=4.8, help="of the memory, TB/s")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    options = parser.parse_args(arguments)
    limit = Limits(options.bandwidth * 1e12, options.multiprocessors * LANES * options.clock * 1e9)
    report = Report(options.output)
    report.line(f"On paper, bfloat16: {limit.additions / 1e12:.1f} T additions/s, {options.bandwidth} TB/s.")
    report.header(["shape", "forward: bytes ms", "instructions ms", "forward + backward: bytes ms", "instructions ms"])
    launch.resident = lambda _, programs: options.multiprocessors * programs  # of the device that is meant
    for shape in SHAPES:
        q = torch.empty(shape, dtype=torch.bfloat16, device="meta")
        cells = ["×".join(map(str, shape))]
        for training in (False, True):
            needed = issue_slots(q, 90, training=training)
            cells += [f"{1e3 * seconds:.3f}" for seconds in least_seconds(q, limit, needed, training=training)]
        report.row(cells)


if __name__ == "__main__":
    main()
