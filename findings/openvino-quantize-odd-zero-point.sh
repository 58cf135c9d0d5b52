#!/usr/bin/env bash
# openvino 2026.4.1: QuantizeLinear with an odd zero point rounds halves the other way than the standard, because it
# rounds after the zero point was added. 0.5, 1.5, 2.5 at zero point 3 become 4, 4, 6; round(x / scale) + zero point, as
# ONNX says, is 3, 5, 5, which ONNX Runtime 1.32.0 and the reference evaluator give. At even zero points all agree.
# Guess before it was run: halves go to the even integer before the zero point is added, everywhere.
# For users of inhibitor models: quantized models are not exported (docs/how-to/export.md), so none of theirs is read by
# OpenVINO.
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

HALVES = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
TYPES = {np.int8: TensorProto.INT8, np.uint8: TensorProto.UINT8}


def quantizer(dtype, zero_point):
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"])],
        "quantizer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, HALVES.shape)],
        [helper.make_tensor_value_info("q", TYPES[dtype], HALVES.shape)],
        [
            numpy_helper.from_array(np.array(1, np.float32), "scale"),
            numpy_helper.from_array(np.array(zero_point, dtype), "zero_point"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model


print("openvino", version("openvino"), "| inputs", HALVES.tolist())
for dtype, zero_point in ((np.uint8, 2), (np.uint8, 3), (np.uint8, 128), (np.int8, 0), (np.int8, -7)):
    model = quantizer(dtype, zero_point)
    data = model.SerializeToString()
    standard = (np.rint(HALVES) + zero_point).astype(int).tolist()
    added_first = np.rint(HALVES + zero_point).astype(int).tolist()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(openvino.Core().read_model(data), "CPU")
    reference = ReferenceEvaluator(model).run(None, {"x": HALVES})[0].tolist()
    ort, ov = session.run(None, {"x": HALVES})[0].tolist(), compiled({"x": HALVES})[0].tolist()
    print(f"{dtype.__name__}, zero point {zero_point}: reference {reference}, onnxruntime {ort}, openvino {ov}")
    assert reference == ort == standard
    assert ov == added_first and (ov == standard) == (zero_point % 2 == 0)
PY
echo "as found"
