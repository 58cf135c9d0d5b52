"""ONNX Runtime: with the operator of this package registered, and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ...attention.cpu import library
from ..runtimes.onnxruntime_operator import register
from .onnx_file import write_onnx_model
from .runtime import INT8, INT8_TOLERANCE, Precision, Run, Runtime
from .tracing import Tensors


def _runs(file: Path, precision: str) -> Iterator[tuple[str, Run]]:
    if library.unavailable() is None:
        yield "operator", _session(file, with_operator=True)
    yield "standard operators", _session(file, with_operator=False)


def _session(file: Path, *, with_operator: bool) -> Run:
    """On the processor, with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    if with_operator:
        register(options)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        found = session.run(names, {name: value.numpy() for name, value in inputs.items()})
        return dict(zip(names, map(torch.from_numpy, found), strict=True))

    return run


ONNXRUNTIME = Runtime(
    name="onnxruntime",
    file="model.onnx",
    packages=("onnx", "onnxscript", "onnxruntime"),
    extra="onnx",
    precisions={"float32": Precision(write_onnx_model), INT8: Precision(write_onnx_model, INT8_TOLERANCE)},
    runs=_runs,
)
