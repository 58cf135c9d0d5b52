#!/usr/bin/env bash
# concrete-python 2.11.0: rows of a tensor that has negative numbers, taken as a slice or by a list of indices, do not
# compile if no number in these rows was negative for any example input: the tensor is signed, the rows are unsigned,
# and the compiler refuses the pair. With one negative number in the rows both compile. So whether a function compiles
# depends on which examples it is shown.
# Guess before it was run: both compile, with the sign of the tensor that they are taken from.
# For users of inhibitor models: deploy/encrypted/engine/program.py shifts a tensor to begin at 0 before it takes rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# torch first, in its build for CPUs: concrete-python would bring gigabytes of CUDA along.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 \
    --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check concrete-python==2.11.0 numpy==1.26.4 \
    setuptools==80.9.0
"$folder/venv/bin/python" -W ignore - 2>"$folder/stderr" <<'PY'
from importlib.metadata import version

import numpy as np
from concrete import fhe

ROWS = np.array([0, 1])
mixed = [np.array([[1, 2], [3, x], [-x, x]]) for x in range(8)]  # negative numbers in the last row only
negative = [np.array([[1, 2], [3, -x], [-x, x]]) for x in range(8)]


def compiles(function, inputs):
    try:
        fhe.Compiler(function, {"x": "encrypted"}).compile(inputs, fhe.Configuration(p_error=1e-3))
    except RuntimeError:
        return False
    return True


found = {
    "list": compiles(lambda x: x[ROWS] + 1, mixed),
    "slice": compiles(lambda x: x[:2] + 1, mixed),
    "list, with a negative number": compiles(lambda x: x[ROWS] + 1, negative),
    "slice, with a negative number": compiles(lambda x: x[:2] + 1, negative),
}
assert list(found.values()) == [False, False, True, True], found
print("concrete-python", version("concrete-python"), "- rows compile:", found)
PY
grep --quiet "doesn't match output element type '!FHE.eint" "$folder/stderr"
grep --quiet "expected element type to be '!FHE.esint" "$folder/stderr"
echo "and the compiler names the types: signed and unsigned"
