#!/usr/bin/env bash
# openvino 2026.4.1: on one thread, infer() on a model of dynamic shapes drops the error of a node that fails, and
# returns an empty output. Adding 2 numbers to 3 raises on two threads, and on one thread by start_async() and wait();
# infer() on one thread returns shape [0].
# Guess before it was run: a node that fails is an error however it is called.
# For users of inhibitor models: with INFERENCE_NUM_THREADS 1, a sequence longer than the model's positions gives
# outputs of size 0 and no error (docs/how-to/deploy.md).
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
a, b = (ops.parameter([-1], np.float32) for _ in range(2))
model = openvino.Model([ops.add(a, b)], [a, b])
TENSORS = {0: np.ones(2, np.float32), 1: np.ones(3, np.float32)}


def result(threads, asynchronous):
    """The shape of 2 numbers plus 3, or "error"."""
    request = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads}).create_infer_request()
    try:
        if asynchronous:
            request.start_async(TENSORS)
            request.wait()
        else:
            request.infer(TENSORS)
    except RuntimeError as error:
        assert "shape" in str(error).lower(), error
        return "error"
    return list(request.get_output_tensor().shape)


found = {}
for threads in (1, 2):
    for asynchronous in (False, True):
        found[threads, asynchronous] = result(threads, asynchronous)
        print(f"{threads} threads, {'start_async' if asynchronous else 'infer'}: {found[threads, asynchronous]}")
print("openvino", version("openvino"))
assert found == {(1, False): [0], (1, True): "error", (2, False): "error", (2, True): "error"}
PY
echo "as found"
