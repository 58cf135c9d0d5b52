"""Times quantized models end to end, at DistilBERT's size with random weights:

    python benchmarks/quantized.py [--threads 1 2] [--batches 1 8 32] [--lengths 64 128 256 512] [--seconds 10]
                                   [--rounds 3] [--layers 6] [--output FILE]
    python benchmarks/quantized.py --peers openvino onnxruntime torchao torch [--json FILE] …
                                   [--student QUANTIZED --teacher MODEL --stsb FOLDER]

The second form times int8 models in the runtimes that people deploy them in (quantized_peers.py), of random weights, or
of a quantized student and its teacher, whose accuracy on STS-B it then shows as well. The first:

Softmax and inhibitor model with float32 throughout, both with the same 8-bit linear layers, the inhibitor with integer
attention beside them; all take turns in one process. `bound` is what a model gains whose attention costs nothing. One
thread: CPU seconds of the thread; more: wall seconds. The tests of the operation run first: on red nothing is reported.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from agreement import INT8, ROUNDED, last_hidden, require_close, require_plain_outputs
from compiler import shared_library
from quantized_peers import PEERS, Models, of_student, peer_tables
from report import Report, machine, progress
from require_tests import require_passing_tests
from timing import Budget, Times, clock_name, interleave
from torch import Tensor
from transformers import AttentionInterface, DistilBertConfig, DistilBertModel, PreTrainedModel

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.deploy.quantize.quantize import quantize_attention, quantize_linears
from inhibitor_transformers.deploy.quantize.report import megabytes
from inhibitor_transformers.evaluation.energy import energy_counters

RATIOS = {  # column: (numerator, denominator) of seconds
    "int8 softmax": ("softmax", "int8 softmax"),
    "inhibitor": ("softmax", "inhibitor"),
    "int8 inhibitor": ("softmax", "int8 inhibitor"),
    "int16 inhibitor": ("softmax", "int16 inhibitor"),
    "int8 inhibitor / int8 softmax": ("int8 softmax", "int8 inhibitor"),
    "bound": ("int8 softmax", "no attention"),
}
HEADER = ["batch", "length", "softmax ms", *RATIOS, "rounds"]
LEGEND = """
Speed-up of the whole model at the fastest call, at the median call in brackets: over the softmax model in float32 but
for the last two columns, which are over the softmax model with the same 8-bit linear layers.
"""
MEMORY_HEADER = ["model", "weights MB", "forward pass above them, MiB"]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.peak:
        print_peak(*options.peak, options)
        return
    require_passing_tests()
    if options.peers:
        peer_tables(of_student(options) if options.student else random_models(options.layers), options)
        return
    models = all_models(options.layers)
    require_right(models)
    report = Report(options.output)
    for threads in options.threads:
        torch.set_num_threads(threads)
        isa = library.load().integer_isa
        report.line(f"\n## Quantized models, {threads} thread(s)\n\n{machine()}, integers {isa}, {clock_name()}.")
        report.line(LEGEND.rstrip())
        report.header(HEADER)
        for batch in options.batches:
            for length in options.lengths:
                progress(f"batch {batch}, length {length}")
                report.row(cells(measure(models, batch, length, options), batch, length))
    memory_table(report, models, options)
    report.line("\nEnergy per sequence: " + energy())


def all_models(layers: int) -> dict[str, PreTrainedModel]:
    """The sides by name; calibrated on random tokens, which decides numbers but no time.

    On thousands of them: what lies outside the ranges of a few is clipped, and six random layers make much of that.
    """
    torch.manual_seed(0)
    softmax = DistilBertModel(DistilBertConfig(n_layers=layers, attn_implementation="sdpa")).eval()
    inhibitor = InhibiDistilBertModel.from_teacher(softmax).eval()
    batches = [{"input_ids": tokens(16, 128), "attention_mask": torch.ones(16, 128, dtype=torch.long)} for _ in "ab"]
    int8_softmax, half_way = copy.deepcopy(softmax), copy.deepcopy(inhibitor)
    for model in (int8_softmax, half_way):
        quantize_linears(model, batches)
    models = {"softmax": softmax, "inhibitor": inhibitor, "int8 softmax": int8_softmax}
    for bits in (8, 16):
        models[f"int{bits} inhibitor"] = copy.deepcopy(half_way)
        quantize_attention(models[f"int{bits} inhibitor"], batches, bits)
    models["no attention"] = copy.deepcopy(int8_softmax)
    models["no attention"].config._attn_implementation = "none"
    return models


def random_models(layers: int) -> Models:
    """As `all_models`, of which the peers need two."""
    made = all_models(layers)
    batches = [{"input_ids": tokens(4, 64), "attention_mask": torch.ones(4, 64, dtype=torch.long)} for _ in range(8)]
    return Models(made["softmax"], made["int8 inhibitor"].requires_grad_(False), batches)


def require_right(models: dict[str, PreTrainedModel]) -> None:
    """Raise SystemExit unless each model is what it is with plain attention, and near the one that it was made from.

    `no attention` is neither: it is a bound on time, not a model.
    """
    there = {name: model for name, model in models.items() if name != "no attention"}
    ids = tokens(1, 32)
    require_plain_outputs(there, ids, ROUNDED)  # a difference of rounding may be one of a whole level of 8 bits
    mask = torch.ones_like(ids)
    for name, model in there.items():
        original = models["softmax" if name.endswith("softmax") else "inhibitor"]
        require_close(name, last_hidden(model, ids, mask), last_hidden(original, ids, mask), INT8)


def no_attention(module: object, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> tuple:
    return value.transpose(1, 2), None


AttentionInterface.register("none", no_attention)


def tokens(batch: int, length: int) -> Tensor:
    return torch.randint(1000, 30_000, (batch, length))


def forward(model: PreTrainedModel, ids: Tensor) -> Callable[[], object]:
    return partial(torch.inference_mode()(model), input_ids=ids, attention_mask=torch.ones_like(ids))


def measure(models: dict[str, PreTrainedModel], batch: int, length: int, options: argparse.Namespace) -> Times:
    ids = tokens(batch, length)
    sides = {name: forward(model, ids) for name, model in models.items()}
    return interleave(sides, Budget(options.rounds, options.seconds))


def cells(times: Times, batch: int, length: int) -> list[str]:
    softmax = times["softmax"]
    row = [str(batch), str(length), f"{softmax.minimum * 1e3:.1f} ({softmax.median * 1e3:.1f})"]
    for above, below in (RATIOS[name] for name in HEADER[3:-1]):
        a, b = times[above], times[below]
        row.append(f"{a.minimum / b.minimum:.2f} ({a.median / b.median:.2f})")
    return [*row, str(softmax.rounds)]


def memory_table(report: Report, models: dict[str, PreTrainedModel], options: argparse.Namespace) -> None:
    batch, length = options.batches[-1], options.lengths[0]
    report.line(f"\n### Memory, batch {batch}, length {length}, {options.threads[-1]} thread(s)")
    report.header(MEMORY_HEADER)
    for name, model in models.items():
        if name != "no attention":
            peak = peak_of(name, batch, length, options)
            report.row([name, f"{megabytes(model):.1f}", "-" if peak is None else f"{peak / 2**20:.1f}"])


def peak_of(side: str, batch: int, length: int, options: argparse.Namespace) -> int | None:
    """Bytes that a forward pass holds at its peak, every malloc of a fresh process counted; None if not Linux."""
    counter = shared_library("allocations.cpp") if sys.platform == "linux" else None
    if counter is None:
        return None
    settings = ["--layers", str(options.layers), "--threads", str(options.threads[-1])]
    run = subprocess.run(
        [sys.executable, __file__, "--peak", side, str(batch), str(length), *settings],
        env=os.environ | {"LD_PRELOAD": str(counter)},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(run.stdout.split()[-1])


def print_peak(side: str, batch: str, length: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads[-1])
    model = all_models(options.layers)[side]
    counter = ctypes.CDLL(None)
    counter.allocations_peak.restype = ctypes.c_int64
    forward(model, tokens(1, 8))()  # packs weights
    call = forward(model, tokens(int(batch), int(length)))
    counter.allocations_forget()
    counter.allocations_restart_peak()
    call()
    print(counter.allocations_peak())


def energy() -> str:
    """Where there is no counter to read, no number is given."""
    found = energy_counters()
    readable = [name for name, verdict in found if verdict == "readable"]
    why = "; ".join(f"{name}: {verdict}" for name, verdict in found)
    return f"not measured by this script, though {readable} could be read" if readable else f"not measured here ({why})"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row, after the rounds")
    parser.add_argument("--rounds", type=int, default=3, help="for each row at least")
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="runtimes to compare int8 models in")
    parser.add_argument("--student", help="of the peers: a quantized model instead of random weights")
    parser.add_argument("--teacher", help="the softmax model that it was made from")
    parser.add_argument("--stsb", type=Path, help="a folder with train.parquet and validation.parquet of STS-B")
    parser.add_argument("--json", type=Path, help="a new file for the rows, of the peers")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    parser.add_argument("--peak", nargs=3, metavar=("SIDE", "BATCH", "LENGTH"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.student and not (options.teacher and options.stsb):
        parser.error("--student needs --teacher and --stsb")
    return options


if __name__ == "__main__":
    main()
