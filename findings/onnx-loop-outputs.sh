#!/usr/bin/env bash
# onnx 1.23.2: its reference evaluator joins the outputs that a Loop gives for each iteration along their first axis,
# where the standard stacks them along a new one: 3 iterations that give (2, 4) are (6, 4) there, and (3, 2, 4) in ONNX
# Runtime 1.32.0 and by ONNX's own shape inference. Vectors and numbers come out right, and so does everything of Scan.
# Guess before it was run: the reference evaluator is right.
# For users of inhibitor models: exported models reshape what their Loop gives, which is right both ways.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import checker, parser, shape_inference
from onnx.reference import ReferenceEvaluator

model = parser.parse_model(
    '<ir_version: 8, opset_import: ["": 20]> model (float[2,4] x) => (float[k,m,n] y) {'
    " n = Constant<value_int = 3>() go = Constant<value = bool {1}>()"
    " y = Loop<body = b (int64 i, bool c) => (bool d, float[2,4] z) { d = Identity(c) z = Add(x, x) }>(n, go) }"
)
checker.check_model(model, full_check=True)
x = np.ones((2, 4), np.float32)
runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
evaluator = ReferenceEvaluator(model).run(None, {"x": x})
inferred = len(shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim)
print("onnx", version("onnx"), "evaluator", evaluator[0].shape, "onnxruntime", runtime[0].shape, "dimensions", inferred)
assert (evaluator[0].shape, runtime[0].shape, inferred) == ((6, 4), (3, 2, 4), 3)
PY
echo "as found"
