#!/usr/bin/env bash
# concrete-python 2.11.0, Linux: once a program has run on ciphertexts, (1) the process ends with status 0 whatever it
# says itself, sys.exit(3) or an exception, and (2) SIGPIPE, which Python ignores so that a peer that hangs up is a
# BrokenPipeError, is no longer ignored. Before the run both are as Python has them. Taking back what Concrete
# registered with atexit gives the statuses back.
# Guess before it was run: statuses 3 and 1; SIGPIPE still ignored.
# For users of inhibitor models: a test or a script that computes on ciphertexts could never fail
# (deploy/encrypted/engine/program.py avoids both).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# torch first, in its build for CPUs: concrete-python would bring gigabytes of CUDA along.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 \
    --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check concrete-python==2.11.0 numpy==1.26.4 \
    setuptools==80.9.0
cat > "$folder/run.py" <<'PY'
import atexit
import re
import signal
import sys

from concrete import compiler, fhe


def is_ignored(number):
    with open("/proc/self/status") as status:
        mask = int(re.search(r"^SigIgn:\s*(\w+)", status.read(), re.MULTILINE).group(1), 16)
    return bool(mask >> (number - 1) & 1)


if "taken-back" in sys.argv:
    atexit.unregister(compiler._terminate_df_parallelization)
squares = fhe.LookupTable([x * x % 4 for x in range(4)])
circuit = fhe.Compiler(lambda x: squares[x], {"x": "encrypted"}).compile(range(4))
assert circuit.encrypt(3) is not None
before = is_ignored(signal.SIGPIPE)
if "run" in sys.argv:
    assert circuit.encrypt_run_decrypt(3) == 1
print(before, is_ignored(signal.SIGPIPE), flush=True)
if "exit" in sys.argv:
    sys.exit(3)
raise ValueError
PY
python3 - "$folder" <<'PY'
import subprocess
import sys

folder = sys.argv[1]


def outcome(*words: str) -> tuple[int, str]:
    """The exit status, and whether SIGPIPE was ignored before and after."""
    command = [f"{folder}/venv/bin/python", "-W", "ignore", f"{folder}/run.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


assert outcome("exit") == (3, "True True")
assert outcome("raise") == (1, "True True")
assert outcome("run", "exit") == (0, "True False")
assert outcome("run", "raise") == (0, "True False")
assert outcome("run", "exit", "taken-back") == (3, "True False")
assert outcome("run", "raise", "taken-back") == (1, "True False")
print("concrete-python 2.11.0 - status 0 whatever fails after a run; SIGPIPE is no longer ignored")
PY
