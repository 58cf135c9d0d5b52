"""Times the operation against torch's attention and the plain formulations: `make bench`, or

    python benchmarks/attention.py [--threads 1 2] [--isa avx2] [--shape 8,12,128,64 …] [--quick]
                                   [--student DIR --text FILE]

One process; the sides take turns, so that what disturbs the machine disturbs all of them. Times are CPU
seconds of the calling thread with one thread, wall seconds with more; ratios are of minima, medians are
printed beside. The tests of the operation run first: on red nothing is reported.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import rivals
import torch
from tensors import Inputs, captured, dead_share, gaussian

from inhibitor_transformers.attention import native

SHAPES = (
    (1, 12, 64, 64),
    (8, 12, 64, 64),
    (8, 12, 128, 64),
    (8, 12, 256, 64),
    (8, 12, 512, 64),
    (2, 12, 1024, 64),
    (1, 12, 2048, 64),
    (8, 12, 128, 32),
    (8, 12, 512, 32),
)
NAIVE_ELEMENTS = 1 << 29  # the broadcast formulation holds several tensors of B·H·N²·D elements
CDIST_ELEMENTS = 1 << 32  # beyond it a single call takes a minute
TESTS = ("test_cpu.py", "test_reference.py")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    options = arguments()
    tests = [str(ROOT / "tests" / "attention" / name) for name in TESTS]
    if subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT, check=False).returncode != 0:
        raise SystemExit("the tests of the operation fail: nothing is reported")
    library = native.library()
    if options.isa:
        library.use_isa(options.isa)
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(f"\n{library.isa}, {threads} thread(s), torch {torch.__version__}, torch.mm {ceiling():.0f} G FMA/s")
        print(
            "| input | shape | dead | sdpa fwd ms (median) | fwd | half-padded | cdist | naive | G el/s | extra MiB "
            "| sdpa fwd+bwd ms (median) | fwd+bwd | cdist fwd+bwd |"
        )
        print("|" + "---|" * 13)
        for shape in options.shape:
            report("gaussian", gaussian(*shape), options.quick)
        if options.student:
            for length in (64, 128, 256, 512):
                for layer, inputs in enumerate(captured(options.student, options.text, 8, length)):
                    report(f"aligned, layer {layer}", inputs, options.quick)


def report(name: str, inputs: Inputs, quick: bool) -> None:
    """One line of the table."""
    q, k, v, scalars = inputs
    batch, heads, length, dim = q.shape
    elements = 2 * batch * heads * length * length * dim
    half = (torch.arange(length) < length // 2).expand(batch, length)
    rounds = max(4, min(200, int(4e9 / elements))) // (2 if quick else 1)

    def forward(side: rivals.Attention, valid: torch.Tensor | None = None) -> Callable[[], object]:
        return partial(torch.no_grad()(side), q, k, v, valid, scalars)

    sides = {"sdpa": forward(rivals.softmax), "ours": forward(rivals.fused), "half": forward(rivals.fused, half)}
    times = interleave(sides, rounds)
    slow = {"cdist": rivals.cdist} if elements <= CDIST_ELEMENTS and not quick else {}
    if elements <= NAIVE_ELEMENTS and not quick:
        slow["naive"] = rivals.naive
    times |= interleave({n: forward(side) for n, side in slow.items()}, 2)

    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    grad = torch.randn_like(q)

    def both(side: rivals.Attention) -> Callable[[], object]:
        return lambda: torch.autograd.grad(side(*leaves, None, scalars), leaves, grad)

    trained = interleave({"sdpa": both(rivals.softmax), "ours": both(rivals.fused)}, max(rounds // 2, 3))
    if "cdist" in slow:
        trained |= interleave({"cdist": both(rivals.cdist)}, 1)

    def ratio(table: dict[str, list[float]], side: str) -> str:
        return f"{min(table[side]) / min(table['sdpa']):.2f}" if side in table else "-"

    def in_ms(values: list[float]) -> str:
        return f"{min(values) * 1e3:.2f} ({statistics.median(values) * 1e3:.2f})"

    cells = [
        name,
        f"{batch}x{heads}x{length}x{dim}",
        f"{dead_share(inputs):.2f}",
        in_ms(times["sdpa"]),
        ratio(times, "ours"),
        ratio(times, "half"),
        ratio(times, "cdist"),
        ratio(times, "naive"),
        f"{elements / min(times['ours']) / 1e9:.0f}",
        f"{extra_memory((batch, heads, length, dim)):.1f}",
        in_ms(trained["sdpa"]),
        ratio(trained, "ours"),
        ratio(trained, "cdist"),
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def interleave(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, the sides in turn; the first round is not counted."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            start = clock()
            side()
            if turn:
                times[name].append(clock() - start)
    return times


EXTRA_MEMORY = """
import torch
from inhibitor_transformers.attention import inhibitor_attention
torch.set_num_threads({threads})
def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))
q, k, v = (torch.randn{shape} for _ in range(3))
inhibitor_attention(*(t[:1, :1, :8] for t in (q, k, v)), engine="cpu")
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
inhibitor_attention(q, k, v, engine="cpu")
print(memory("VmHWM") - before - q.numel() * 4 // 1024)
"""


def extra_memory(shape: tuple[int, ...]) -> float:
    """MiB above inputs and output of one forward call in a fresh process; NaN where there is no /proc."""
    if not sys.platform.startswith("linux"):
        return math.nan
    code = EXTRA_MEMORY.format(threads=torch.get_num_threads(), shape=shape)
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return max(int(run.stdout) / 1024, 0.0)


def ceiling() -> float:
    """1e9 multiply-adds per second of torch.mm: the rate that a min and an add per element compete with."""
    a = torch.randn(768, 768)
    times = interleave({"mm": lambda: a @ a}, 20)["mm"]
    return 768**3 / min(times) / 1e9


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isa", help="avx512, avx2 or portable; the best one when left out")
    parser.add_argument("--shape", type=lambda s: tuple(map(int, s.split(","))), nargs="+", default=SHAPES)
    parser.add_argument("--quick", action="store_true", help="half the rounds, and no cdist or naive formulation")
    parser.add_argument("--student", help="folder of an aligned student: its tensors are timed too")
    parser.add_argument("--text", type=Path, help="plain text file that the student reads")
    options = parser.parse_args()
    if bool(options.student) != bool(options.text):
        parser.error("--student and --text go together")
    return options


if __name__ == "__main__":
    main()
