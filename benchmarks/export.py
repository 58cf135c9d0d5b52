"""Times attention, and whole models, outside Python: the exported forms against each other and against softmax.

    python benchmarks/export.py [--shape 1,128 1,512 8,128] [--layers 6] [--compile] [--seconds 5] [--output FILE]
    python benchmarks/export.py --runtime onnxruntime openvino [--threads 1 2] [--json FILE] …

The second form times what a user would deploy: exported models beside softmax models in the forms in which their
runtimes run them fastest (runtime_sides.py). The first:

One thread, CPU seconds of the thread. Attention has 12 heads of 64, models have DistilBERT's sizes; weights, scores and
tokens are random. Memory is what a call allocates above its inputs and results, every malloc counted, with ONNX
Runtime's arena off (it keeps what it once took); not measured without Linux with glibc and a compiler. Needs the extra
`onnx`; with --compile, forms compiled by torch.compile (Inductor) as well. Every form is first compared with torch's on
inputs that it was not exported with, padding among them: one that computes something else ends the benchmark.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from agreement import FLOAT32, require_close
from compiler import shared_library
from inputs import gaussian
from report import Report, machine, progress
from require_tests import require_passing_tests
from runtime_sides import SIDES_OF, runtime_tables
from timing import Budget, clock_name, interleave
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertModel

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.attention import InhibitorScalars, inhibitor_attention, reference
from inhibitor_transformers.deploy.export.onnx_attention import onnx_operator
from inhibitor_transformers.deploy.export.onnx_file import write_onnx, write_onnx_model
from inhibitor_transformers.deploy.export.operator import with_operator
from inhibitor_transformers.deploy.export.plain import plain_attention, with_plain_attention
from inhibitor_transformers.deploy.export.torch_program import trace
from inhibitor_transformers.deploy.export.torch_sums import torch_sums
from inhibitor_transformers.deploy.export.tracing import Traceable
from inhibitor_transformers.deploy.runtimes import torch_operator
from inhibitor_transformers.deploy.runtimes.onnxruntime_operator import register

HEADS, DIM = 12, 64
SIDES = [
    "torch: softmax", "torch: engine", "torch: cdist", "torch: broadcast",
    "ONNX Runtime: softmax", "ONNX Runtime: operator", "ONNX Runtime: function", "ONNX Runtime: broadcast",
]  # fmt: skip
COMPILED = ["torch.compile: cdist", "torch.compile: broadcast"]
Call = Callable[..., Any]
Shape = tuple[int, int]  # batch, length


class Attention(nn.Module):
    """One of the forms as a module of (B, H, N, D) tensors and a (B, N) mask; "engine" is what serves in Python."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.scalars = form, InhibitorScalars(HEADS, gamma=0.3, delta=0.1, length_exponent=0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        if self.form == "softmax":
            return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=valid[:, None, None, :])
        if self.form == "engine":
            return inhibitor_attention(q, k, v, **self.scalars.as_arguments(), key_padding_mask=valid)
        if self.form == "broadcast":
            given = {name: getattr(self.scalars, name)[:, None, None] for name in self.scalars.initial}
            options = {"length_reference": 64.0, "signed": True, "center": "mean"}
            return reference.attend(q, k, v, valid[:, None, None, :], None, **given, **options)
        if self.form == "cdist":
            return plain_attention(torch_sums, q, k, v, valid, self.scalars, signed=True, center="mean")
        scalars = [getattr(self.scalars, name) for name in ("gamma", "eta", "delta", "length_exponent")]
        rows = [t.transpose(1, 2).flatten(2) for t in (q, k, v)]
        options = {"num_heads": HEADS, "length_reference": 64.0, "center": "mean", "is_signed": True}
        return onnx_operator(*rows, valid, *scalars, None, **options).unflatten(2, (HEADS, DIM)).transpose(1, 2)


def attention_inputs(batch: int, length: int) -> tuple[Tensor, ...]:
    q, k, v, _ = gaussian(batch, HEADS, length, DIM)
    return q, k, v, torch.ones(batch, length, dtype=torch.bool)


def in_onnx_runtime(file: Path, *, arena: bool = True, operator: bool = False) -> Call:
    """What runs `file` on one thread and takes torch tensors; `operator`: with this package's registered."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_cpu_mem_arena = 1, arena
    if operator:
        register(options)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *given: session.run(None, {n: t.numpy() for n, t in zip(names, given, strict=True)})


def attention_side(side: str, folder: Path, *, arena: bool = True) -> Call:
    """ "ONNX Runtime: function", "torch: cdist", "torch.compile: broadcast" and so on."""
    where, form = side.split(": ")
    module = Attention(form).eval().requires_grad_(False)
    if where == "ONNX Runtime":
        file = folder / f"{form}.onnx"
        if not file.exists():
            axes = {name: {0: "batch", 2: "length"} for name in "qkv"} | {"valid": {0: "batch", 1: "length"}}
            write_onnx(module, dict(zip(axes, attention_inputs(2, 37), strict=True)), axes, ["attention_output"], file)
        return in_onnx_runtime(file, arena=arena, operator=form == "operator")
    return torch.compile(module, dynamic=True) if where == "torch.compile" else module


def in_aotinductor(model: nn.Module, inhibitor: InhibiDistilBertModel, file: Path) -> Call:
    """`model` compiled; `inhibitor` says what its inputs are."""
    progress(f"compiling {file.stem}")
    torch._inductor.aoti_compile_and_package(trace(inhibitor, Traceable(model)), package_path=str(file))
    run = torch._inductor.aoti_load_package(str(file))
    return lambda ids, mask: run(input_ids=ids, attention_mask=mask)["last_hidden_state"]


def models(layers: int, folder: Path, *, compiled: bool = False) -> dict[str, Call]:
    """DistilBERT and the inhibitor model made from it, in torch, in ONNX Runtime and compiled by AOTInductor."""
    torch.manual_seed(0)
    config = DistilBertConfig(n_layers=layers, attn_implementation="sdpa")
    softmax = DistilBertModel(config).eval().requires_grad_(False)
    inhibitor = InhibiDistilBertModel.from_teacher(softmax).eval().requires_grad_(False)
    package = with_plain_attention(inhibitor, torch_sums)
    sides: dict[str, Call] = {"torch: softmax": softmax, "torch: inhibitor": inhibitor}
    sides["torch: inhibitor, as its package computes"] = package
    # two tensors: of one for both, the exporter makes one input, and what is embedded is the mask
    inputs = {"input_ids": torch.arange(1000, 1014).view(2, 7), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    axes = {name: {0: "batch", 1: "length"} for name in inputs}
    progress("exporting softmax")
    write_onnx(Traceable(softmax).eval(), inputs, axes, ["last_hidden_state"], folder / "softmax.onnx")
    sides["ONNX Runtime: softmax"] = in_onnx_runtime(folder / "softmax.onnx")
    progress("exporting inhibitor")
    write_onnx_model(inhibitor, folder / "inhibitor.onnx")
    for name, operator in {"inhibitor": True, "inhibitor, by its function": False}.items():
        sides[f"ONNX Runtime: {name}"] = in_onnx_runtime(folder / "inhibitor.onnx", operator=operator)
    if compiled:
        forms = {"softmax": softmax, "inhibitor": with_operator(inhibitor, torch_operator.load())}
        sides |= {f"AOTInductor: {n}": in_aotinductor(m, inhibitor, folder / f"{n}.pt2") for n, m in forms.items()}
    require_same_models(sides)
    return sides


@torch.no_grad()
def require_same_models(sides: dict[str, Call]) -> None:
    """Raise SystemExit unless each side gives torch's hidden states for texts that it has not seen, one padded."""
    ids, mask = torch.randint(1000, 30000, (3, 11)), torch.ones(3, 11).long()
    mask[1, 5:] = 0
    valid = mask.bool()

    def hidden(side: str) -> Tensor:
        return as_tensor(sides[side](ids, mask))[valid]

    for side in sides:
        peer = "torch: softmax" if side.endswith("softmax") else "torch: inhibitor"
        require_close(side, hidden(side), hidden(peer), FLOAT32)


@torch.no_grad()
def require_same_attention(sides: dict[str, Call]) -> None:
    """The same of attention alone."""
    q, k, v, valid = attention_inputs(2, 19)
    valid[1, 9:] = False
    for side, call in sides.items():
        expected = sides["torch: softmax" if side.endswith("softmax") else "torch: engine"](q, k, v, valid)
        require_close(side, as_tensor(call(q, k, v, valid)), expected, FLOAT32)


def as_tensor(result: Any) -> Tensor:
    """The first output, of torch or of ONNX Runtime."""
    first = result if isinstance(result, Tensor) else result[0]
    return first if isinstance(first, Tensor) else torch.from_numpy(first)


def extra_memory(side: str, shapes: list[Shape], folder: Path) -> list[str]:
    """MiB of one call for each shape, in a fresh process."""
    library = shared_library("allocations.cpp") if sys.platform == "linux" else None
    if library is None or side in COMPILED:
        return ["-"] * len(shapes)
    listed = [f"{batch},{length}" for batch, length in shapes]
    command = [sys.executable, str(Path(__file__)), "--memory-of", side, str(folder), "--shape", *listed]
    run = subprocess.run(command, env=os.environ | {"LD_PRELOAD": str(library)}, check=True, capture_output=True)
    return [f"{int(number) / 2**20:.1f}" for number in run.stdout.split()]


def count_memory(side: str, shapes: list[Shape], folder: Path) -> None:
    counter = ctypes.CDLL(None)
    counter.allocations_peak.restype = ctypes.c_int64
    call = attention_side(side, folder, arena=False)
    call(*attention_inputs(1, 4))
    for shape in shapes:
        inputs = attention_inputs(*shape)
        counter.allocations_forget()
        counter.allocations_restart_peak()
        result = call(*inputs)
        print(counter.allocations_peak() - (result if isinstance(result, Tensor) else result[0]).nbytes)


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    if options.memory_of:
        count_memory(options.memory_of[0], options.shape, Path(options.memory_of[1]))
        return
    require_passing_tests()
    if options.runtime:
        runtime_tables(options)
        return
    report, budget = Report(options.output), Budget(3, options.seconds)
    report.line(f"{machine()}, one thread, {clock_name()}.")
    with TemporaryDirectory() as folder:
        attention_table(report, Path(folder), options.shape, SIDES + (COMPILED if options.compile else []), budget)
        if options.layers:
            whole = models(options.layers, Path(folder), compiled=options.compile)
            model_table(report, whole, options.shape, options.layers, budget)


def attention_table(report: Report, folder: Path, shapes: list[Shape], sides: list[str], budget: Budget) -> None:
    attention = {side: attention_side(side, folder) for side in sides}
    require_same_attention(attention)
    times = [timed(attention, attention_inputs(*shape), budget) for shape in shapes]
    report.line(f"\n## Attention, {HEADS} heads of {DIM}")
    report.line("\nMilliseconds of the fastest call / MiB above inputs and result.")
    report.header(["", *columns(shapes)])
    for side in sides:
        memory = extra_memory(side, shapes, folder)
        report.row([side, *(f"{t[side]} / {m}" for t, m in zip(times, memory, strict=True))])


def model_table(report: Report, whole: dict[str, Call], shapes: list[Shape], layers: int, budget: Budget) -> None:
    times = [timed(whole, (torch.randint(1000, 30000, s), torch.ones(s).long()), budget) for s in shapes]
    report.line(f"\n## Models, {layers} layers, 768 wide\n\nMilliseconds of the fastest call.")
    report.header(["", *columns(shapes)])
    for side in whole:
        report.row([side, *(t[side] for t in times)])


def columns(shapes: list[Shape]) -> list[str]:
    return [f"{batch} × {length}" for batch, length in shapes]


def timed(sides: dict[str, Call], inputs: tuple[Tensor, ...], budget: Budget) -> dict[str, str]:
    progress(f"shape {tuple(inputs[0].shape)}")
    times = interleave({side: partial(call, *inputs) for side, call in sides.items()}, budget)
    return {side: f"{1e3 * summary.minimum:.1f}" for side, summary in times.items()}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shape = {"type": lambda text: tuple(map(int, text.split(","))), "metavar": "BATCH,LENGTH"}
    parser.add_argument("--shape", nargs="+", default=[(1, 128), (1, 512), (8, 128)], **shape)
    parser.add_argument("--layers", type=int, default=6, help="of the models; 0: attention alone")
    parser.add_argument("--compile", action="store_true", help="also what Inductor makes of the forms")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each shape, after three rounds")
    parser.add_argument("--runtime", nargs="+", choices=list(SIDES_OF), help="time exported models in these runtimes")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="with --runtime")
    parser.add_argument("--json", type=Path, help="with --runtime: a new file for the rows")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
