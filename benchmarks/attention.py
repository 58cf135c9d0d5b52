"""Times the operation against torch's attention and the plain formulations: `make bench`, or

    python benchmarks/attention.py [--threads 1 2] [--shape 8,12,128,64 …] [--seconds 3] [--quick] [--output FILE]
                                   [--student DIR --text FILE] [--lengths 64 128 256 512] [--isa avx2]
                                   [--tables operation generation long]
    python benchmarks/attention.py --device cuda [--shape …] [--seconds 3] [--quick] [--output FILE]

The sides take turns in one process. Times are CPU seconds of the calling thread with one thread, wall seconds with
more. The tests of the operation run first, and each side is compared with float64 before it is timed: on red nothing is
reported.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import generation
import torch
from inputs import capture_inputs, gaussian
from memory import extra_memory
from operation import Effort, Measurement, element_operations, measure, measure_instruction_sets, measure_long, total
from report import Report, machine, progress
from require_tests import require_passing_tests
from roofline import integer_roofline, roofline
from timing import Times, clock_name

from inhibitor_transformers.attention.cpu import library

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
LONG_SHAPES = tuple((1, 1, length, 64) for length in (2048, 4096, 8192, 16384, 32768))
LENGTHS = (64, 128, 256, 512)
BATCH = 8  # of the captured inputs

SIDES = [f"{padding}{cell}" for padding in ("", "half-padded: ") for cell in ("SDPA ms", "ours ms", "ours / SDPA")]
INTEGERS = [
    "int8 / SDPA",
    "int8 uncentered / SDPA",
    "int16 / SDPA",
    "half-padded: int8 / SDPA",
    "half-padded: int16 / SDPA",
]
FORWARD = [
    "input",
    "shape",
    "inactive pairs",
    *SIDES,
    *INTEGERS,
    "SDPA bfloat16 / SDPA",
    "cdist / SDPA",
    "naive / SDPA",
]
FORWARD += ["cdist / ours", "G el/s", "of the roofline", "int8 G el/s", "of the roofline", "MiB ours, SDPA"]
BOTH = ["input", "shape", *SIDES, "cdist / SDPA", "cdist / ours", "MiB ours, SDPA"]

LEGEND = """
Minima, medians in brackets. SDPA is torch's, float32, of the same inputs and with the same padding.
Inactive pairs: fraction of (query, key) that contributes exactly nothing. G el/s: 1e9 element operations per second of
the dense forward pass, whatever is skipped; the roofline is measured on registers alone. MiB: peak above inputs and
results.
int8 and int16: integer attention, the quantization of q, k and v included.
"""


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    require_passing_tests(gpu=options.device != "cpu")
    if options.device != "cpu":
        import gpu  # needs Triton

        return gpu.main(options)
    kernels = library.load()
    if options.isa:
        kernels.use_isa(options.isa)
    report = Report(options.output)
    for threads in options.threads:
        torch.set_num_threads(threads)
        report.line(f"\n## Attention, {threads} thread(s)\n\n{machine()}, {kernels.isa}, {clock_name()}.")
        if "generation" in options.tables:
            generation_table(report, options)
        if "long" in options.tables:
            long_table(report, options, threads)
        if "operation" not in options.tables:
            continue
        best = report_roofline(report, kernels.isa, threads)
        best_int8 = report_integer_roofline(report, kernels.integer_isa, threads)
        report.line(LEGEND.rstrip())
        operation_tables(report, measure_all(options), best, best_int8, threads)
        if len(kernels.isas) > 1 and not options.isa and not options.quick:
            instruction_set_tables(report, options)


def measure_all(options: argparse.Namespace) -> list[tuple[str, Measurement]]:
    """(input, measurement) of every row."""
    effort = Effort(options.seconds, 2 if options.quick else 7, slow=not options.quick)
    rows = []
    for shape in options.shape or SHAPES:
        progress(f"gaussian {shape}")
        rows.append(("gaussian", measure(gaussian(*shape), effort)))
    for length in options.lengths if options.student else ():
        progress(f"aligned, length {length}")
        layers = [measure(layer, effort) for layer in capture_inputs(options.student, options.text, BATCH, length)]
        rows += [(f"aligned, layer {i}", layer) for i, layer in enumerate(layers)]
        rows.append((f"**aligned, {len(layers)} layers**", total(layers)))
    return rows


def operation_tables(
    report: Report, rows: list[tuple[str, Measurement]], best: float, best_int8: float, threads: int
) -> None:
    measured = {name: {} for name in ("fused", "softmax")}
    for side, table in measured.items():
        for shape in {m.shape for name, m in rows if name == "gaussian"}:
            table[shape] = extra_memory(side, shape, threads)

    def memory(name: str, shape: tuple[int, ...], which: int) -> str:
        found = [table.get(shape) for table in measured.values()] if name == "gaussian" else []
        return ", ".join(f"{m[which]:.2f}" if m else "-" for m in found) or "-"

    report.line("\n### Forward")
    report.header(FORWARD)
    for name, m in rows:
        t = m.forward
        cells = [name, shape_text(m), f"{m.inactive:.2f}", *against_sdpa(t), *against_sdpa(t, " half")]
        cells += [ratio(t, "int8"), ratio(t, "int8 uncentered"), ratio(t, "int16")]
        cells += [ratio(t, f"int{bits} half", "sdpa half") for bits in (8, 16)]
        cells += [ratio(t, "bfloat16"), ratio(t, "cdist"), ratio(t, "naive"), ratio(t, "cdist", "ours")]
        for side, limit in (("ours", best), ("int8", best_int8)):
            rate = m.elements / t[side].minimum
            cells += [f"{rate / 1e9:.1f}", f"{rate / limit:.0%}" if limit else "-"]
        report.row([*cells, memory(name, m.shape, 0)])
    report.line("\n### Forward + backward")
    report.header(BOTH)
    for name, m in rows:
        t = m.both
        cells = [name, shape_text(m), *against_sdpa(t), *against_sdpa(t, " half")]
        report.row([*cells, ratio(t, "cdist"), ratio(t, "cdist", "ours"), memory(name, m.shape, 1)])


def generation_table(report: Report, options: argparse.Namespace) -> None:
    report.line("\n### Causal prefill and decoding, forward\n")
    report.line(
        "Shapes are batch × heads (: key/value heads) × queries × keys × features; minima, medians in brackets.\n"
    )
    report.header(["case", "shape", "SDPA ms", "ours ms", "ours / SDPA"])
    for case in generation.CASES:
        progress(f"{case.title} {case.shape}")
        times = generation.measure(case, options.seconds, 2 if options.quick else 7)
        report.row([case.title, case.shape, ms(times, "sdpa", 3), ms(times, "ours", 3), ratio(times, "ours")])


def long_table(report: Report, options: argparse.Namespace, threads: int) -> None:
    report.line("\n### Long sequences\n")
    report.line("Minima, medians in brackets. MiB: peak above inputs and results.\n")
    report.header(["shape", *SIDES[:3], "G el/s", "with backward: ours / SDPA", "MiB ours, SDPA"])
    for shape in options.shape or LONG_SHAPES:
        progress(f"long {shape}")
        times, both = measure_long(gaussian(*shape), Effort(options.seconds, 2 if options.quick else 7))
        memory = [extra_memory(side, shape, threads) for side in ("fused", "softmax")]
        rate = element_operations(shape) / times["ours"].minimum
        cells = [*against_sdpa(times), f"{rate / 1e9:.1f}", ratio(both, "ours")]
        cells.append(", ".join(f"{m[0]:.2f}" if m else "-" for m in memory))
        report.row(["×".join(map(str, shape)), *cells])


def instruction_set_tables(report: Report, options: argparse.Namespace) -> None:
    kernels = library.load()
    best, *lower = kernels.isas
    rows = []
    for shape in options.shape or SHAPES:
        progress(f"instruction sets, {shape}")
        rows.append(measure_instruction_sets(gaussian(*shape), Effort(options.seconds)))
    kernels.use_isa(best)
    for title in ("Forward", "Forward + backward"):
        report.line(f"\n### {title}, instruction sets in turn")
        columns = [*(f"{name} / {best}" for name in lower), *(f"{name} / SDPA" for name in kernels.isas)]
        report.header(["gaussian", f"{best} ms", *columns])
        for m in rows:
            t = m.forward if title == "Forward" else m.both
            cells = [shape_text(m), ms(t, best), *(ratio(t, isa, best) for isa in lower)]
            report.row([*cells, *(ratio(t, isa) for isa in kernels.isas)])
    report.line("\n### Integers, forward, instruction sets in turn")
    sides = [(bits, isa) for bits in (8, 16) for isa in kernels.isas]
    report.header(["gaussian", *(f"int{bits} {isa} / SDPA" for bits, isa in sides)])
    for m in rows:
        report.row([shape_text(m), *(ratio(m.forward, f"int{bits} {isa}") for bits, isa in sides)])


def report_roofline(report: Report, isa: str, threads: int) -> float:
    rates = roofline(isa, threads)
    ways = ", ".join(f"min + {name} {rate / 1e9:.1f}" for name, rate in rates.items())
    report.line(f"Roofline in G element operations per second: {ways or 'no compiler to measure it with'}.")
    return max(rates.values(), default=0.0)


def report_integer_roofline(report: Report, isa: str, threads: int) -> float:
    rate = integer_roofline(isa, threads)
    if rate:
        report.line(f"With bytes ({isa}): differences, then min + multiply-add {rate / 1e9:.1f}.")
    return rate


def shape_text(m: Measurement) -> str:
    return "×".join(map(str, m.shape))


def ms(times: Times, side: str, digits: int = 2) -> str:
    return f"{times[side].minimum * 1e3:.{digits}f} ({times[side].median * 1e3:.{digits}f})"


def ratio(times: Times, side: str, base: str = "sdpa") -> str:
    if side not in times or base not in times:
        return "-"
    digits = 2 if times[side].minimum < 10 * times[base].minimum else 1
    least, median = times[side].minimum / times[base].minimum, times[side].median / times[base].median
    return f"{least:.{digits}f} ({median:.{digits}f})"


def against_sdpa(times: Times, padding: str = "") -> list[str]:
    sdpa, ours = f"sdpa{padding}", f"ours{padding}"
    return [ms(times, sdpa), ms(times, ours), ratio(times, ours, sdpa)]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isa", help="avx512, avx2 or portable; the best one when left out")
    parser.add_argument("--shape", type=lambda s: tuple(map(int, s.split(","))), nargs="+", help="B,H,N,D")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row and direction, after 7 rounds")
    parser.add_argument("--quick", action="store_true", help="2 rounds, no cdist or naive form, one instruction set")
    tables = ("operation", "generation")
    parser.add_argument(
        "--tables", nargs="+", choices=(*tables, "long"), default=tables, help="without long when left out"
    )
    parser.add_argument("--student", help="folder of an aligned student: its inputs are timed too")
    parser.add_argument("--text", type=Path, help="what it reads: plain text, or Parquet with a column `text`")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of that text, in tokens")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    options = parser.parse_args(arguments)
    if bool(options.student) != bool(options.text):
        parser.error("--student and --text go together")
    if options.device != "cpu" and (options.student or options.isa):
        parser.error("--student and --isa are for the processor: leave --device out")
    return options


if __name__ == "__main__":
    main()
