#!/usr/bin/env bash
# openvino 2026.4.1: Convert from float32 to bfloat16 rounds up only where the last bit that stays is 1: 1 + 3/512,
# three quarters of the way from 1 to the next number, becomes 1. A quarter of random numbers differ from the nearest.
# Guess before it was run: to nearest, ties to even, as torch, ONNX Runtime and the processor's instruction do.
# For users of inhibitor models: in a bfloat16 export projections give bfloat16 themselves, and no Convert is left
# between them and attention (tests/deploy/runtimes/test_openvino_operator.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 openvino==2026.4.1
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
import openvino

ops, core = openvino.opset13, openvino.Core()
x = ops.parameter([-1], np.float32, "x")
model = openvino.Model([ops.convert(ops.convert(x, "bf16"), "f32")], [x])
compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def nearest(numbers):
    bits = numbers.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


numbers = np.array([1 + 3 / 512, 1 + 7 / 512], np.float32)
found = compiled([numbers])[0].tolist()
sample = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
wrong = float((compiled([sample])[0] != nearest(sample)).mean())
print(f"{numbers.tolist()}: {found}, nearest {nearest(numbers).tolist()}; {wrong:.3f} of random numbers differ")
print("openvino", version("openvino"))
assert nearest(numbers).tolist() == [1 + 1 / 128, 1 + 2 / 128]
assert found == [1.0, 1 + 2 / 128]
assert 0.24 < wrong < 0.26
PY
echo "as found"
