#!/usr/bin/env bash
# openvino 2026.4.1: an ONNX model that defines a function of its own and calls it (a FunctionProto, part of ONNX since
# IR version 8) is refused, "No conversion rule found". It also refuses a Scan within a Scan; a Loop within a Loop, and
# a Loop within a Scan, are read. ONNX Runtime 1.32.0 and ONNX's reference evaluator run all four.
# Guess before it was run: the function is expanded, as the functions of standard operators are.
# For users of inhibitor models: a file for ONNX Runtime is not for OpenVINO. `inhibit export --runtime openvino` writes
# the same function out in the graph, as a Loop within a Scan.
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
from onnx import checker, parser
from onnx.reference import ReferenceEvaluator

LOOP = "<body = b{n} (int64 i{n}, bool c{n}) => (bool d{n}, float{size} {out}) {{ {inner} d{n} = Identity(c{n}) }}>"
SCAN = "<num_scan_inputs = 1, body = s{n} (float{size} {of}) => (float{size} {out}) {{ {inner} }}>"
HEAD = '<ir_version: 8, opset_import: ["": 20{more}]> model (float[3,4] x) => (float[3,4] y) {{ {body} }}'
COUNTS = "n = Constant<value_int = 3>() m = Constant<value_int = 4>() go = Constant<value = bool {1}>() "
IN_SCAN = "r = Scan" + SCAN.format(n=2, size="", of="e", out="f", inner="f = Add(e, e)") + "(row)"
IN_LOOP = "r = Loop" + LOOP.format(n=2, size="", out="f", inner="e = Gather(row, i2) f = Add(e, e)") + "(m, go)"
OUTER = {"n": 1, "size": "[4]", "out": "r"}
BODIES = {
    "function": "y = mine.Twice(x)",
    "Scan in Scan": "y = Scan" + SCAN.format(**OUTER, of="row", inner=IN_SCAN) + "(x)",
    "Loop in Scan": "y = Scan" + SCAN.format(**OUTER, of="row", inner=COUNTS + IN_LOOP) + "(x)",
    "Loop in Loop": COUNTS + "y = Loop" + LOOP.format(**OUTER, inner="row = Gather(x, i1) " + IN_LOOP) + "(n, go)",
}
X = np.arange(12, dtype=np.float32).reshape(3, 4)
loads = {}
for name, body in BODIES.items():
    text = HEAD.format(more=', "mine": 1' if "mine" in body else "", body=body)
    if "mine" in body:
        text += ' <domain: "mine", opset_import: ["": 20]> Twice (a) => (b) { b = Add(a, a) }'
    model = parser.parse_model(text)
    checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert (session.run(None, {"x": X})[0] == 2 * X).all(), name
    assert (np.reshape(ReferenceEvaluator(model).run(None, {"x": X})[0], X.shape) == 2 * X).all(), name
    try:
        compiled = openvino.Core().compile_model(openvino.Core().read_model(data), "CPU")
        loads[name] = bool((compiled({"x": X})[0] == 2 * X).all())
    except Exception as error:
        print(f"{name}: {' '.join(str(error).split())[-300:]}")
        loads[name] = False
print("openvino", version("openvino"), loads)
assert loads == {"function": False, "Scan in Scan": False, "Loop in Scan": True, "Loop in Loop": True}
PY
echo "as found"
