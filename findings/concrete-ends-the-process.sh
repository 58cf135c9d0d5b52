#!/usr/bin/env bash
# concrete-python 2.11.0: once a program has run on ciphertexts, the process (1) ends with status 0 whatever it says
# itself, sys.exit(3) or an exception, and (2) is ended by a signal where Python raises BrokenPipeError: the runtime
# catches SIGPIPE, which Python ignores. Both are avoided from outside: by taking back what Concrete registered with
# atexit, and by blocking SIGPIPE.
# Guess before it was run: statuses 3 and 1; BrokenPipeError.
# For users of inhibitor models: a test or a script that computes on ciphertexts could never fail, and a client that
# hung up would have ended the server (deploy/encrypted/engine/program.py avoids both).
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
import signal
import socket
import sys

from concrete import compiler, fhe

if "avoid" in sys.argv:
    atexit.unregister(compiler._terminate_df_parallelization)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
squares = fhe.LookupTable([x * x % 4 for x in range(4)])
circuit = fhe.Compiler(lambda x: squares[x], {"x": "encrypted"}).compile(range(4))
assert circuit.encrypt_run_decrypt(3) == 1
if "exit" in sys.argv:
    sys.exit(3)
if "raise" in sys.argv:
    raise ValueError
ours, theirs = socket.socketpair()
theirs.close()
try:
    ours.send(b"x")
except BrokenPipeError:
    sys.exit(4)
PY
python3 - "$folder" <<'PY'
import subprocess
import sys

folder = sys.argv[1]


def status(*words: str) -> int:
    """Below 0: ended by a signal."""
    command = [f"{folder}/venv/bin/python", "-W", "ignore", f"{folder}/run.py", *words]
    return subprocess.run(command, capture_output=True, check=False).returncode


found = {words: status(*words) for words in (("exit",), ("raise",), ("exit", "avoid"), ("raise", "avoid"))}
assert found == {("exit",): 0, ("raise",): 0, ("exit", "avoid"): 3, ("raise", "avoid"): 1}, found
assert status("send") < 0
assert status("send", "avoid") == 4
print("concrete-python 2.11.0 - status 0 of whatever fails after a run; a peer that hangs up ends the process")
PY
