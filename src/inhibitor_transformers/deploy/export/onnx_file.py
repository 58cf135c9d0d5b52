"""The ONNX file of a model, which every runtime that reads ONNX takes.

By torch's exporter itself: the one of transformers, which wraps it, takes no graph of our own for an operator and has
changed its interface within the versions that are supported here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from ...models.saving import writing
from .operator import with_operator
from .tracing import Tensors, Traceable, dynamic_axes, sample_inputs


@torch.no_grad()
def write_onnx_model(model: PreTrainedModel, file: Path, *, standard: bool = False) -> None:
    """Write an InhibiDistilBERT that is not quantized to `file`; `standard` as for `write_onnx`."""
    from .onnx_attention import onnx_operator

    inputs = next(sample_inputs(model))
    outputs = list(Traceable(model)(**inputs))
    traceable = Traceable(with_operator(model, onnx_operator)).eval()
    write_onnx(traceable, inputs, dynamic_axes(model), outputs, file, standard=standard)


def write_onnx(
    module: nn.Module,
    inputs: Tensors,
    axes: dict[str, dict[int, str]],
    outputs: list[str],
    file: Path,
    *,
    standard: bool = False,
) -> None:
    """Write a module to `file`.

    inputs: examples by the names of the module's arguments. axes: names of the dynamic axes of each. outputs: names.
    standard: write standard operators alone, for runtimes that know no functions of a model (OpenVINO), in place of a
    node and its function.

    Raises ValueError if two examples are one tensor: torch's exporter takes two arguments for one that are the same.
    """
    from .onnx_attention import OPSET, add_function, write_functions_out

    if len({id(tensor) for tensor in inputs.values()}) < len(inputs):
        raise ValueError(f"the examples of {', '.join(inputs)} must be a tensor each; two of them are one")
    with _quiet():
        program = torch.onnx.export(
            module,
            kwargs=inputs,
            dynamic_shapes=axes,
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    add_function(program.model)
    if standard:
        write_functions_out(program.model)
    with writing(file):
        program.save(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages about itself, names of axes and packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name")
            yield
    finally:
        logger.setLevel(level)
