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
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...models.saving import writing
from .operator import with_operator
from .tracing import Tensors, Traceable, dynamic_axes, sample_inputs


def write_onnx_model(model: PreTrainedModel, file: Path) -> None:
    """Write an InhibiDistilBERT that is not quantized to `file`."""
    program = model_program(model)
    with writing(file):
        program.save(file)


@torch.no_grad()
def model_program(model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> torch.onnx.ONNXProgram:
    """The graph of an InhibiDistilBERT that is not quantized, with its function; attention takes and gives `dtype`."""
    from .onnx_attention import onnx_operator
    from .onnx_layer_norm import keep_residuals_apart

    def operator(query: Tensor, key: Tensor, value: Tensor, *others: Any, **attributes: Any) -> Tensor:
        return onnx_operator(query.to(dtype), key.to(dtype), value.to(dtype), *others, **attributes).to(query.dtype)

    inputs = next(sample_inputs(model))
    outputs = list(Traceable(model)(**inputs))
    program = onnx_program(Traceable(with_operator(model, operator)).eval(), inputs, dynamic_axes(model), outputs)
    keep_residuals_apart(program.model)
    return program


def write_onnx(
    module: nn.Module, inputs: Tensors, axes: dict[str, dict[int, str]], outputs: list[str], file: Path
) -> None:
    """Write a module to `file`; arguments and errors as for `onnx_program`."""
    program = onnx_program(module, inputs, axes, outputs)
    with writing(file):
        program.save(file)


def onnx_program(
    module: nn.Module, inputs: Tensors, axes: dict[str, dict[int, str]], outputs: list[str]
) -> torch.onnx.ONNXProgram:
    """The graph of a module, with the function of its attention nodes, if it has such.

    inputs: examples by the names of the module's arguments. axes: names of the dynamic axes of each. outputs: names.

    Raises ValueError if two examples are one tensor: torch's exporter takes two arguments for one that are the same.
    """
    from .onnx_attention import OPSET, add_function

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
    return program


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
