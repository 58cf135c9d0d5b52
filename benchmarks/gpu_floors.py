"""How fast a GPU can be at best: its copy bandwidth and its rate of additions, measured, and what the kernels need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from timing import stopwatch
from torch import Tensor

from inhibitor_transformers.attention.triton.blocks import default

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
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    programs = 8 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    out = torch.empty(programs * 4096, device=device)

    def copy() -> None:
        target.copy_(source)

    def add() -> None:
        _add[(programs,)](out, additions, BLOCK=4096, num_warps=4)

    copy(), add()
    return Limits(
        bytes=2 * copied / min(time_of(copy) for _ in range(5)),
        additions=out.numel() * additions / min(time_of(add) for _ in range(5)),
    )


def slots(dim: int, dtype: torch.dtype, capability: int, *, cached: bool, training: bool) -> float:
    """Issue slots of the arithmetic for an element (one feature of one query and key), counted in the compiled code.

    A slot is one instruction of a warp; an instruction on the half-rate pipe counts twice where that pipe is the
    bottleneck (`triton_code.Loop.slots`).
    """
    from triton_code import examine  # needs kernels that are not interpreted

    short = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    total = 0.0
    for kernel in ("forward", "query", "key_value") if training else ("forward",):
        loops = examine(kernel, dim, short, default(kernel, dim), capability).loops
        again = loops[0].slots if kernel == "forward" and not cached else 0.0
        total += again + sum(loop.slots for loop in loops)
    return total


def floors(q: Tensor, limit: Limits, slots_of_element: float, *, training: bool) -> tuple[float, float]:
    """Seconds that the bytes of inputs and results take at least, and the arithmetic."""
    batch, heads, length, dim = q.shape
    tensors = 4 + (8 if training else 0)  # q, k, v, out; again with g for the gradients of three
    return (
        tensors * q.numel() * q.element_size() / limit.bytes,
        slots_of_element * batch * heads * length * length * dim / limit.additions,
    )
