"""OpenVINO: with the operator of this package as an extension, and without.

model.onnx has the operator, standard.onnx the same model in standard operators, for an OpenVINO without the extension:
it reads no functions of a model. Both take their weights from one file. The extension lies beside them. A quantized
model has no standard form there: beyond 24 bits OpenVINO's integers are floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ...models.saving import writing
from ..runtimes import openvino_operator
from .integers import is_quantized
from .onnx_file import model_program
from .runtime import INT8, INT8_TOLERANCE, Precision, Run, Runtime
from .tracing import Tensors

STANDARD, WEIGHTS = "standard.onnx", "model.onnx.data"
_HINTS = {"float32": "f32", "bfloat16": "bf16", INT8: "f32"}  # integers in between say so themselves
# bfloat16 has 8 bits; what its roundings add up to in six layers of 768 is 1e-2.
_BFLOAT16_TOLERANCE = 5e-2
_KEPT_IN_GRAPH = 256  # bytes


def _write(dtype: torch.dtype) -> Callable[[PreTrainedModel, Path], None]:
    def write(model: PreTrainedModel, file: Path) -> None:
        import onnx_ir

        from .onnx_attention import write_functions_out

        with writing(file):
            openvino_operator.copy_extension(file.parent)
        graph = model_program(model, dtype).model
        with writing(file):
            onnx_ir.external_data.unload_from_model(graph, file.parent, WEIGHTS, size_threshold_bytes=_KEPT_IN_GRAPH)
            onnx_ir.save(graph, file)
            if is_quantized(model):  # which standard operators express for runtimes whose integers are exact
                return
            write_functions_out(graph)
            onnx_ir.save(graph, file.with_name(STANDARD))

    return write


def _missing() -> str | None:
    try:
        openvino_operator.extension_path()
    except RuntimeError as error:
        return str(error)
    return None


def _runs(file: Path, precision: str) -> Iterator[tuple[str, Run]]:
    core = openvino_operator.new_core()
    core.add_extension(str(file.with_name(openvino_operator.NAME)))
    yield "operator", _compiled(core, file, precision)
    if (standard := file.with_name(STANDARD)).exists():
        yield "standard operators", _compiled(openvino_operator.new_core(), standard, precision)


def _compiled(core: Any, file: Path, precision: str) -> Run:
    """On the processor, with as many threads as torch."""
    threads = torch.get_num_threads()
    settings = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(file, "CPU", settings).create_infer_request()

    def run(inputs: Tensors) -> Tensors:
        # Not infer(), which on one thread drops errors (findings/openvino-errors-of-one-thread.sh).
        request.start_async({name: value.numpy() for name, value in inputs.items()})
        request.wait()
        return {output.get_any_name(): torch.from_numpy(value.copy()) for output, value in request.results.items()}

    return run


def _loading(folder: Path, precision: str) -> str:
    # Without the hint, processors that have bfloat16 compute everything in it.
    settings = f"{{'INFERENCE_PRECISION_HINT': '{_HINTS[precision]}'}}"
    lines = (
        f"core.add_extension('{folder}/{openvino_operator.NAME}'), then "
        f"core.compile_model('{folder}/model.onnx', 'CPU', {settings})"
    )
    return lines if precision == INT8 else f"{lines}; without the extension, '{folder}/{STANDARD}'"


OPENVINO = Runtime(
    name="openvino",
    file="model.onnx",
    packages=("onnx", "onnxscript", "openvino"),
    extra="openvino",
    precisions={
        "float32": Precision(_write(torch.float32)),
        "bfloat16": Precision(_write(torch.bfloat16), _BFLOAT16_TOLERANCE),
        INT8: Precision(_write(torch.float32), INT8_TOLERANCE),
    },
    runs=_runs,
    missing=_missing,
    beside=(STANDARD, WEIGHTS, openvino_operator.NAME, "_cpu_kernels.so"),
    loading=_loading,
)
