#!/usr/bin/env bash
# onnx 1.23.2, onnxruntime 1.32.0, openvino 2026.4.1, onnxsim 0.8.1: a Loop with a trip count and no condition input is,
# by the operator's own text, a `for` loop that ignores the condition its body gives. For a body that adds one, and says
# "stop" at 2 of 4, there are three answers: onnxsim's simplified model 4 (as the text says), ONNX Runtime and OpenVINO
# 2, the reference evaluator 0. With the condition input given, all say 2.
# Guess before it was run: all give the same value, before and after simplification.
# For users of inhibitor models: the exported models use Scan, not Loop.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 onnxsim==0.8.1
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import onnxsim
import openvino
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def info(name, dtype):
    return helper.make_tensor_value_info(name, dtype, [])


def loop(condition):
    """Four trips of s + 1 from `start`; the body's condition is s + 1 < 2."""
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "one"], ["next"]), helper.make_node("Less", ["next", "two"], ["go_on"])],
        "body",
        [info("i", TensorProto.INT64), info("before", TensorProto.BOOL), info("s", TensorProto.FLOAT)],
        [info("go_on", TensorProto.BOOL), info("next", TensorProto.FLOAT)],
    )
    constants = {"one": np.float32(1), "two": np.float32(2), "trips": np.int64(4)}
    if condition:
        constants[condition] = np.bool_(True)
    graph = helper.make_graph(
        [helper.make_node("Loop", ["trips", condition, "start"], ["end"], body=body)],
        "model",
        [info("start", TensorProto.FLOAT)],
        [info("end", TensorProto.FLOAT)],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


feed = {"start": np.array(0, np.float32)}
found = {}
for condition in ("true", ""):
    model = loop(condition)
    compiled = openvino.Core().compile_model(openvino.Core().read_model(model.SerializeToString()), "CPU")
    values = {
        "reference": ReferenceEvaluator(model).run(None, feed)[0],
        "onnxruntime": run(model),
        "openvino": compiled(dict(feed))[0],
        "onnxsim, then onnxruntime": run(onnxsim.simplify(model)[0]),
    }
    found[condition] = {who: float(np.ravel(value)[0]) for who, value in values.items()}
    print(f"condition input {condition or 'left out'}: {found[condition]}")
print(", ".join(f"{name} {version(name)}" for name in ("onnx", "onnxruntime", "openvino", "onnxsim")))
text = onnx.defs.get_schema("Loop", 21).doc.split('input (trip_count, "")')[1].split("* input")[0]
assert "ignored" in text, "the operator's text has changed"
assert set(found["true"].values()) == {2.0}
assert list(found[""].values()) == [0.0, 2.0, 2.0, 4.0]
PY
echo "as found"
