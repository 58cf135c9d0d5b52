#!/usr/bin/env bash
# onnxruntime 1.32.0: ReduceSum over integers on a CPU is neither exact nor wraps around. int64 is added up in float64
# (2**53 + 1 gives 2**53), and what does not fit stops at the type's ends: int32 2147483647 + 1 gives 2147483647. Add
# and CumSum of the same numbers are exact and wrap around, so that a sum depends on how it is written.
# Guess before it was run: int64 sums are exact, and both types wrap around.
# For users of inhibitor models: exported quantized models add up in float32 and float64, whose numbers are whole there
# (deploy/export/onnx_integer_attention.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

TYPES = {np.int32: TensorProto.INT32, np.int64: TensorProto.INT64}


def sums(numbers, dtype):
    """Two numbers added up by ReduceSum, by CumSum and by Add, in one model without graph optimizations."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["by_reduce"], keepdims=1),
            helper.make_node("CumSum", ["x", "axis"], ["by_cumsum"]),
            helper.make_node("Split", ["x"], ["a", "b"], axis=0, num_outputs=2),
            helper.make_node("Add", ["a", "b"], ["by_add"]),
        ],
        "sums",
        [info("x", TYPES[dtype], [2])],
        [info(f"by_{name}", TYPES[dtype], [size]) for name, size in (("reduce", 1), ("cumsum", 2), ("add", 1))],
        [numpy_helper.from_array(np.array([0]), "axes"), numpy_helper.from_array(np.array(0), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [int(values[-1]) for values in session.run(None, {"x": np.array(numbers, dtype)})]


found = {}
for dtype, numbers in (
    (np.int64, (2**53, 1)),
    (np.int64, (2**63 - 1, 1)),
    (np.int32, (2**31 - 1, 1)),
    (np.int32, (-(2**31), -1)),
):
    by_reduce, by_cumsum, by_add = found[numbers] = sums(numbers, dtype)
    print(f"{dtype.__name__} {numbers}: ReduceSum {by_reduce}, CumSum {by_cumsum}, Add {by_add}")
print("onnxruntime", version("onnxruntime"))
assert found == {
    (2**53, 1): [2**53, 2**53 + 1, 2**53 + 1],
    (2**63 - 1, 1): [2**63 - 1, -(2**63), -(2**63)],
    (2**31 - 1, 1): [2**31 - 1, -(2**31), -(2**31)],
    (-(2**31), -1): [-(2**31), 2**31 - 1, 2**31 - 1],
}
PY
echo "as found"
