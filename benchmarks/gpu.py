"""The operation on a GPU: `python benchmarks/attention.py --device cuda`. See there for the options.

Sides take turns; a time is what lies between two events of the device around one call for each of three sets of inputs,
divided by three, the median of all rounds after one that warms up.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import agreement
import baselines
import torch
from gpu_roofline import SHAPES, Limits, issue_slots, least_seconds, limits
from inputs import Inputs, gaussian
from report import Report, progress
from timing import Budget, Sides, Times, interleave

SETS = 3
NAIVE_ELEMENTS = 1 << 32
SIDES = {
    "ours bf16": (baselines.fused_gpu, torch.bfloat16),
    "ours fp32": (baselines.fused_gpu, torch.float32),
    "SDPA bf16": (baselines.softmax, torch.bfloat16),
    "SDPA fp32": (baselines.softmax, torch.float32),
    "cdist": (baselines.cdist, torch.float32),
    "naive": (baselines.naive, torch.float32),
}
HEADER = ["shape", *(f"{side} ms" for side in SIDES), "cdist / ours bf16", "ours / SDPA bf16"]
HEADER += ["bound by memory ms", "bound by instructions ms", "of the latter", "MiB ours, SDPA, cdist"]


def main(options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    report = Report(options.output)
    interpreter = "NO GPU: Triton's interpreter, its times mean nothing"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else interpreter
    limit = limits(device) if device.type == "cuda" else limits(device, 1 << 20, 8)
    report.line(f"## Attention on a GPU\n\n{name}, torch {torch.__version__}.")
    report.line(f"Copy {limit.bytes / 1e12:.2f} TB/s, additions {limit.additions / 1e12:.1f} T/s (measured).")
    budget = Budget(2 if options.quick else 7, options.seconds)
    for training in (False, True):
        report.line(f"\n### {'Forward + backward' if training else 'Forward'}")
        report.header(HEADER)
        for shape in options.shape or SHAPES:
            progress(f"{shape}")
            report.row(row(shape, device, limit, budget, training=training))


def row(shape: tuple[int, ...], device: torch.device, limit: Limits, budget: Budget, *, training: bool) -> list[str]:
    times, memory = measure(shape, device, budget, training=training)
    median = {side: 1e3 * times[side].median for side in times}
    q = torch.empty(shape, dtype=torch.bfloat16, device=device)
    major, minor = torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)
    needed = issue_slots(q, 10 * major + minor, training=training)
    of_bytes, of_instructions = (1e3 * seconds for seconds in least_seconds(q, limit, needed, training=training))
    return [
        "×".join(map(str, shape)),
        *(f"{median[side]:.3f}" if side in median else "-" for side in SIDES),
        f"{median['cdist'] / median['ours bf16']:.1f}",
        f"{median['ours bf16'] / median['SDPA bf16']:.2f}",
        f"{of_bytes:.3f}",
        f"{of_instructions:.3f}",
        f"{of_instructions / median['ours bf16']:.0%}",
        ", ".join(f"{memory[side] / 2**20:.1f}" for side in ("ours bf16", "SDPA bf16", "cdist")),
    ]


def measure(
    shape: tuple[int, ...], device: torch.device, budget: Budget, *, training: bool
) -> tuple[Times, dict[str, int]]:
    """Times of every side that fits, and bytes at the peak above inputs and results."""
    sets = [gaussian(*shape) for _ in range(SETS)]
    sides: Sides = {}
    memory: dict[str, int] = {}
    for name, (side, dtype) in SIDES.items():
        if name == "naive" and shape[0] * shape[1] * shape[2] ** 2 * shape[3] > NAIVE_ELEMENTS:
            continue
        calls = [call(side, inputs, dtype, device, training=training) for inputs in sets]
        require_right(name, calls[0], on(sets[0], device, dtype), training=training)
        memory[name] = peak(calls[0], device)
        sides[name] = partial(run_all, calls)
    times = interleave(sides, budget, device)
    return {name: t / SETS for name, t in times.items()}, memory


def call(
    side: baselines.Attention, inputs: Inputs, dtype: torch.dtype, device: torch.device, *, training: bool
) -> Callable[[], object]:
    *qkv, scalars = on(inputs, device, dtype)
    q, k, v = (t.detach().requires_grad_(training) for t in qkv)
    scalars = {name: t.detach().requires_grad_(training) for name, t in scalars.items()}
    leaves = [q, k, v] if side is baselines.softmax else [q, k, v, *scalars.values()]
    grad = torch.ones_like(q)

    def both() -> object:
        out = side(q, k, v, None, scalars)
        return torch.autograd.grad(out, leaves, grad.to(out.dtype))

    return both if training else partial(torch.no_grad()(side), q, k, v, None, scalars)


def on(inputs: Inputs, device: torch.device, dtype: torch.dtype) -> Inputs:
    q, k, v = (t.to(device, dtype) for t in inputs.qkv)
    return Inputs(q, k, v, {name: t.to(device) for name, t in inputs.scalars.items()})


def require_right(name: str, call: Callable[[], object], inputs: Inputs, *, training: bool) -> None:
    """Raise SystemExit unless the side computes the operation of its name, as float64 does of the same inputs."""
    is_softmax = name.startswith("SDPA")
    tolerance = agreement.ROUNDED if inputs.query.dtype == torch.float32 else agreement.HALF
    if not training:
        right = agreement.softmax_of if is_softmax else agreement.inhibitor_of
        agreement.require_close(name, agreement.first_of(call()), right(inputs, None), tolerance)
        return
    side = baselines.softmax if is_softmax else baselines.reference
    expected = agreement.gradients_of(side, inputs, torch.ones_like(inputs.query), None)
    for which, found, gradient in zip("qkv", call()[:3], expected, strict=True):
        agreement.require_close(f"{name}, gradient of {which}", found[:1, :1], gradient, tolerance)


def run_all(calls: list[Callable[[], object]]) -> None:
    for each in calls:
        each()


def peak(call: Callable[[], object], device: torch.device) -> int:
    """Bytes allocated at the peak of a call above what was allocated before and what it returns."""
    if device.type != "cuda":
        return 0
    call()  # compiles
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = call()
    torch.cuda.synchronize(device)
    kept = torch.cuda.memory_allocated(device) - before
    del result
    return torch.cuda.max_memory_allocated(device) - before - kept
