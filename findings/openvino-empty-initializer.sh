#!/usr/bin/env bash
# openvino 2026.4.1: its ONNX front end reads an initializer of no elements, of shape (1, 0), as a scalar with one element,
# whose value is not said. Shapes computed from it are then wrong by one: Concat with an empty tensor grows by a number.
# Guess before it was run: a constant of shape (1, 0), as in ONNX Runtime.
# For users of inhibitor models: OpenVINO's IntegerInhibitorAttention takes the number of split features from another
# input, and ignores what stands in the place of an empty one (csrc/runtimes/openvino_integers.h).
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

empty = numpy_helper.from_array(np.zeros((1, 0), np.int32), "empty")
flat = numpy_helper.from_array(np.array([-1], np.int64), "flat")
graph = helper.make_graph(
    [
        helper.make_node("Shape", ["empty"], ["shape"]),
        helper.make_node("Reshape", ["empty", "flat"], ["row"], allowzero=0),
        helper.make_node("Concat", ["x", "row"], ["y"], axis=0),
    ],
    "empty",
    [helper.make_tensor_value_info("x", TensorProto.INT32, [3])],
    [helper.make_tensor_value_info("shape", TensorProto.INT64, [None]),
     helper.make_tensor_value_info("y", TensorProto.INT32, [None])],
    [empty, flat],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
checker.check_model(model, full_check=True)
x = np.arange(3, dtype=np.int32)

session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
shape, y = session.run(None, {"x": x})
print(f"onnxruntime {onnxruntime.__version__}: shape {shape.tolist()}, {len(y)} elements behind Concat")
assert shape.tolist() == [1, 0] and len(y) == 3

compiled = openvino.Core().compile_model(openvino.Core().read_model(model.SerializeToString()), "CPU")
found = list(compiled({"x": x}).values())
print(f"openvino {openvino.__version__.split('-')[0]}: shape {found[0].tolist()}, {len(found[1])} elements behind Concat")
assert found[0].tolist() == [] and len(found[1]) == 4
PY
