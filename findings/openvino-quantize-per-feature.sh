#!/usr/bin/env bash
# openvino 2026.4.1: a QuantizeLinear with a step per feature of a tensor (batch, length, features) is read, and the
# processor plugin then refuses to compile it ("doesn't support non per-tensor quantization"), but behind a MatMul, with
# which it is fused, and of (rows, features) the same node compiles and is right.
# Guess before it was run: it compiles wherever it stands, as in ONNX Runtime.
# For users of inhibitor models: exported int8 models multiply by the inverse steps first, and quantize with step 1
# (deploy/export/integers.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, checker, helper, numpy_helper

FEATURES = 4


def quantizing(dimensions, behind_product):
    steps = numpy_helper.from_array(np.linspace(0.1, 1, FEATURES).astype(np.float32), "steps")
    zeros = numpy_helper.from_array(np.zeros(FEATURES, np.uint8), "zeros")
    weight = numpy_helper.from_array(np.eye(FEATURES, dtype=np.float32), "weight")
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["product"])] if behind_product else []
    read = "product" if behind_product else "x"
    nodes.append(helper.make_node("QuantizeLinear", [read, "steps", "zeros"], ["y"], axis=dimensions - 1))
    graph = helper.make_graph(
        nodes,
        "quantizing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * dimensions)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None] * dimensions)],
        [steps, zeros, *([weight] if behind_product else [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def verdict(dimensions, behind_product):
    model = quantizing(dimensions, behind_product)
    x = np.arange(2 * 3 * FEATURES, dtype=np.float32).reshape([2, 3, FEATURES][-dimensions:] if dimensions == 3 else [6, 4])
    (expected,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    read = openvino.Core().read_model(model)
    try:
        compiled = openvino.Core().compile_model(read, "CPU")
    except RuntimeError as error:
        return "refused" if "non per-tensor quantization" in str(error) else str(error)
    return "equal" if np.array_equal(list(compiled({"x": x}).values())[0], expected) else "different"


found = {case: verdict(*case) for case in ((3, False), (3, True), (2, False))}
for (dimensions, behind_product), what in found.items():
    print(f"openvino {openvino.__version__.split('-')[0]}, {dimensions} dimensions"
          f"{', behind MatMul' if behind_product else ''}: {what}")
assert found == {(3, False): "refused", (3, True): "equal", (2, False): "equal"}
PY
