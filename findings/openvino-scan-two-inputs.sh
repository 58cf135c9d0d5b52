#!/usr/bin/env bash
# openvino 2026.4.1: an ONNX Scan that adds up the products of two inputs, row by row, gives a wrong sum without a word;
# so does one that returns differences of neighboring rows, and one that counts the rows runs its body once. ONNX
# Runtime 1.32.0 and ONNX's reference evaluator give the right values. With one input that is added up, OpenVINO is
# right too.
# Guess before it was run: all three agree wherever OpenVINO loads the model.
# For users of inhibitor models: exported models have no state in their Scan, and `inhibit export --runtime openvino`
# compares what OpenVINO computes with the model.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

ROWS = 5
X = np.arange(1, ROWS + 1, dtype=np.float32)[:, None]  # 1 … 5
W = np.float32(10) ** np.arange(ROWS, dtype=np.float32)[:, None]  # 1 … 10000
ONE = numpy_helper.from_array(np.ones(1, np.float32), "one")
FEED = {"state": np.zeros(1, np.float32), "x": X, "w": W}


def tensor(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def scan(nodes, inputs, of_rows=False, constants=()):
    """A model of one Scan: from `state` and the rows of `inputs` to the last state, or to one output a row."""
    body = helper.make_graph(
        [helper.make_node(op, args, [out]) for op, args, out in nodes],
        "body",
        [tensor("s", 1), *(tensor(f"{name}_row", 1) for name in inputs)],
        [tensor("next", 1), *([tensor("row_out", 1)] if of_rows else [])],
    )
    outputs = ["last", "rows"] if of_rows else ["last"]
    node = helper.make_node("Scan", ["state", *inputs], outputs, num_scan_inputs=len(inputs), body=body)
    graph = helper.make_graph(
        [node],
        "model",
        [tensor("state", 1), *(tensor(name, ROWS, 1) for name in inputs)],
        [tensor("rows", ROWS, 1) if of_rows else tensor("last", 1)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model


MODELS = {
    "sum of x": scan([("Add", ["s", "x_row"], "next")], ["x"]),
    "sum of x * w": scan([("Mul", ["x_row", "w_row"], "p"), ("Add", ["s", "p"], "next")], ["x", "w"]),
    "differences of x": scan([("Identity", ["x_row"], "next"), ("Sub", ["x_row", "s"], "row_out")], ["x"], of_rows=True),
    "number of rows": scan([("Add", ["s", "one"], "next")], ["x"], constants=[ONE]),
}
EXPECTED = {"sum of x": [15], "sum of x * w": [54321], "differences of x": [1] * ROWS, "number of rows": [ROWS]}
right = {}
for name, model in MODELS.items():
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feed = {entry.name: FEED[entry.name] for entry in session.get_inputs()}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(data), "CPU")
    values = {
        "reference": ReferenceEvaluator(model).run(None, feed)[0],
        "onnxruntime": session.run(None, feed)[0],
        "openvino": compiled(dict(feed))[0],
    }
    print(f"{name}: " + ", ".join(f"{who} {np.ravel(value).tolist()}" for who, value in values.items()))
    right[name] = {who: np.ravel(value).tolist() == EXPECTED[name] for who, value in values.items()}
print("openvino", version("openvino"))
for name, who in right.items():
    assert who == {"reference": True, "onnxruntime": True, "openvino": name == "sum of x"}, name
PY
echo "as found"
