"""Whole models in other runtimes: ours as `inhibit export` writes them, softmax models as their runtimes run them best.

A runtime has one function in SIDES_OF, which gives its sides. Weights are random, of DistilBERT's size; every side is
compared with torch before anything is timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from agreement import FLOAT32
from report import Report, machine, progress
from timing import Budget, interleave
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertModel

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.deploy.export import RUNTIMES
from inhibitor_transformers.deploy.export.onnx_file import write_onnx
from inhibitor_transformers.deploy.export.runtime import Run
from inhibitor_transformers.deploy.export.tracing import Tensors, Traceable
from inhibitor_transformers.deploy.runtimes import openvino_operator

BFLOAT16 = 5e-2
_AXES = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}


class Side(NamedTuple):
    """`run` takes as many threads as torch; its outputs must be those of `peer`, a model of torch."""

    name: str
    precision: str
    run: Run
    peer: nn.Module
    tolerance: float = FLOAT32


class Pair(NamedTuple):
    """A softmax model and the inhibitor model that was made from it."""

    softmax: nn.Module
    inhibitor: InhibiDistilBertModel


def make_pair(layers: int) -> Pair:
    torch.manual_seed(0)
    softmax = (
        DistilBertModel(DistilBertConfig(n_layers=layers, attn_implementation="sdpa")).eval().requires_grad_(False)
    )
    return Pair(softmax, InhibiDistilBertModel.from_teacher(softmax).eval().requires_grad_(False))


def inputs_of(batch: int, length: int) -> Tensors:
    return {
        "input_ids": torch.randint(1000, 30000, (batch, length)),
        "attention_mask": torch.ones(batch, length).long(),
    }


def exported(pair: Pair, runtime: str, folder: Path) -> Iterator[Side]:
    """Ours: in every precision of the runtime, with the operator."""
    tolerances = {"float32": FLOAT32, "bfloat16": BFLOAT16}
    for precision, tolerance in tolerances.items():
        if precision not in RUNTIMES[runtime].precisions:
            continue
        progress(f"exporting for {runtime}, {precision}")
        place = folder / runtime / precision
        place.mkdir(parents=True)
        RUNTIMES[runtime].require(precision).write(copy.deepcopy(pair.inhibitor), place / RUNTIMES[runtime].file)
        way, run = next(RUNTIMES[runtime].runs(place / RUNTIMES[runtime].file, precision))
        yield Side(f"inhibitor, {way}", precision, run, pair.inhibitor, tolerance)


class ContribAttention(nn.Module):
    """DistilBERT's self-attention as an operator of ONNX Runtime's own: MultiHeadAttention, or Attention."""

    def __init__(self, original: Any, operator: str) -> None:
        super().__init__()
        self.original, self.operator, self.heads = original, f"com.microsoft::{operator}", original.n_heads

    def forward(self, hidden_states: Tensor, key_mask: Tensor, **_: Any) -> tuple[Tensor, None]:
        layers = (self.original.q_lin, self.original.k_lin, self.original.v_lin)
        if self.operator.endswith("MultiHeadAttention"):
            inputs = [*(layer(hidden_states) for layer in layers), None, key_mask]
        else:
            weight = torch.cat([layer.weight for layer in layers]).t().contiguous()
            inputs = [hidden_states, weight, torch.cat([layer.bias for layer in layers]), key_mask]
        attributes, shape = {"num_heads": self.heads}, hidden_states.shape
        found = torch.onnx.ops.symbolic(self.operator, inputs, attributes, dtype=torch.float32, shape=shape, version=1)
        return self.original.out_lin(found), None


class WithContribAttention(nn.Module):
    """A softmax DistilBERT with `ContribAttention`; for the exporter alone."""

    def __init__(self, model: Any, operator: str) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        for layer in self.model.transformer.layer:
            layer.attention = ContribAttention(layer.attention, operator)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensors:
        mask = attention_mask.to(torch.int32)
        return {"last_hidden_state": self.model(input_ids=input_ids, key_mask=mask).last_hidden_state}


def in_onnxruntime(file: Path, disabled: tuple[str, ...] = ()) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )
    names = [value.name for value in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        found = session.run(names, {name: t.numpy() for name, t in inputs.items()})
        return dict(zip(names, map(torch.from_numpy, found), strict=True))

    return run


def onnxruntime_sides(pair: Pair, folder: Path) -> Iterator[Side]:
    """Softmax exported plainly, with ONNX Runtime's own operators, and without a fusion that makes it slower."""
    forms = {
        "plain": Traceable(pair.softmax),
        "Attention": WithContribAttention(pair.softmax, "Attention"),
        "MultiHeadAttention": WithContribAttention(pair.softmax, "MultiHeadAttention"),
    }
    for name, module in forms.items():
        progress(f"exporting softmax, {name}")
        file = folder / f"{name}.onnx"
        example = {"input_ids": torch.arange(1000, 1014).view(2, 7), "attention_mask": torch.ones(2, 7).long()}
        write_onnx(module.eval(), example, _AXES, ["last_hidden_state"], file)
        yield Side(f"softmax, {name}", "float32", in_onnxruntime(file), pair.softmax)
    apart = in_onnxruntime(file, ("SkipLayerNormFusion",))
    yield Side(f"softmax, {name}, residuals apart as in ours", "float32", apart, pair.softmax)
    yield from exported(pair, "onnxruntime", folder)


def openvino_sides(pair: Pair, folder: Path) -> Iterator[Side]:
    """Softmax by OpenVINO's own front end for torch, which keeps its attention in one operator."""
    import openvino

    example = inputs_of(2, 7)
    model = openvino.convert_model(Traceable(pair.softmax), example_input=example)
    for precision, hint, tolerance in (("float32", "f32", FLOAT32), ("bfloat16", "bf16", BFLOAT16)):
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino_operator.new_core().compile_model(model, "CPU", settings)

        def run(inputs: Tensors, compiled: Any = compiled) -> Tensors:
            return {
                "last_hidden_state": torch.from_numpy(compiled({n: t.numpy() for n, t in inputs.items()})[0].copy())
            }

        yield Side("softmax", precision, run, pair.softmax, tolerance)
    yield from exported(pair, "openvino", folder)


SIDES_OF: dict[str, Callable[[Pair, Path], Iterator[Side]]] = {
    "onnxruntime": onnxruntime_sides,
    "openvino": openvino_sides,
}


@torch.no_grad()
def differences(sides: list[Side], inputs: Tensors | None = None) -> list[float]:
    """Of each side from its peer, on a batch with padding, over the size. Raises SystemExit beyond the tolerance.

    inputs: None for random ones; quantized models of texts are far from themselves on those.
    """
    if inputs is None:
        inputs = inputs_of(3, 21)
        inputs["attention_mask"][1, 9:] = 0
    valid = inputs["attention_mask"].bool()
    found = []
    for side in sides:
        ours, theirs = side.run(inputs)["last_hidden_state"][valid], side.peer(**inputs).last_hidden_state[valid]
        found.append(((ours - theirs).norm() / theirs.norm()).item())
        if not found[-1] <= side.tolerance:
            raise SystemExit(f"{side.name}, {side.precision}, computes something else (by {found[-1]:.1e} of its size)")
    return found


def runtime_tables(options: argparse.Namespace) -> None:
    """A table for each runtime and number of threads, and all rows to `options.json`."""
    report, written = Report(options.output), Report(options.json)
    report.line(
        f"{machine()}. Models: {options.layers} layers, 768 wide, random weights. Milliseconds: minima (medians)."
    )
    pair = make_pair(options.layers)
    listed: list[dict[str, Any]] = []
    for runtime in options.runtime:
        for threads in options.threads:
            torch.set_num_threads(threads)
            with TemporaryDirectory() as folder:
                sides = {runtime: list(SIDES_OF[runtime](pair, Path(folder)))}
                listed += timed_table(report, sides, options.shape, Budget(5, options.seconds))
    if written.output is not None:
        written.output.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def timed_table(
    report: Report,
    sides: dict[str, list[Side]],
    shapes: list[tuple[int, int]],
    budget: Budget,
    compared_on: Tensors | None = None,
) -> list[dict[str, Any]]:
    """Times of all sides, by runtime, in turn: as Markdown, and as a row for each side and shape."""
    threads = torch.get_num_threads()
    # OpenVINO computes on a thread of its own, whose seconds that of the caller does not count.
    clock = time.process_time if threads == 1 else time.perf_counter
    apart = {name: differences(of_runtime, compared_on) for name, of_runtime in sides.items()}
    every = [(name, i, side) for name, of_runtime in sides.items() for i, side in enumerate(of_runtime)]
    rows, cells = [], [[name, side.name, side.precision] for name, _, side in every]
    for batch, length in shapes:
        progress(f"{', '.join(sides)}, {threads} threads, {batch} × {length}")
        inputs = inputs_of(batch, length)
        times = interleave({f"{n} {i}": partial(s.run, inputs) for n, i, s in every}, budget, now=clock)
        for (name, i, side), summary, shown in zip(every, times.values(), cells, strict=True):
            shown.append(f"{1e3 * summary.minimum:.1f} ({1e3 * summary.median:.1f})")
            row = {"side": side.name, "precision": side.precision, "runtime": name, "batch": batch, "length": length}
            timed = {"threads": threads, "ms": 1e3 * summary.minimum, "median_ms": 1e3 * summary.median, "equal": True}
            rows.append(row | timed | {"difference": apart[name][i]})
    what = "CPU seconds of the process" if threads == 1 else "wall seconds"
    report.line(f"\n## {', '.join(sides)}, {threads} thread{'s' if threads > 1 else ''} ({what})")
    report.header(["", "", "", *(f"{batch} × {length}" for batch, length in shapes)])
    for shown in cells:
        report.row(shown)
    return rows
