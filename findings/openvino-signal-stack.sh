#!/usr/bin/env bash
# openvino 2026.4.1, Linux x86-64: each Core that computes on the processor gives the thread that uses it first another
# alternate signal stack, and restores the one before when it is released. Of two Cores, released in the order in which
# they were made, the second restores that of the first, which is no longer mapped. Released last first, or used first
# in a thread of their own, nothing stays.
# Guess before it was run: when all Cores are released, the thread is as it was.
# For users of inhibitor models: a Core for each request dies at Ctrl-C or at the end of a DataLoader's worker. Keep one
# Core; what this package makes itself (openvino_operator.new_core) is used first in a thread of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 openvino==2026.4.1
"$folder/venv/bin/python" -W ignore - <<'PY'
import ctypes
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import openvino


class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack():
    """Of this thread: "none", "mapped" or "not mapped"; only looked at."""
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    if stack.flags & 2:  # SS_DISABLE
        return "none"
    with open("/proc/self/maps") as maps:
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    return "mapped" if any(first <= stack.start < last for first, last in ranges) else "not mapped"


def use(core):
    core.get_property("CPU", "FULL_DEVICE_NAME")


def used_in_a_thread(core):
    with ThreadPoolExecutor(1) as thread:
        thread.submit(use, core).result()


def after(first_use, order):
    """The signal stack when two Cores are gone, in this order."""
    cores = {name: openvino.Core() for name in ("first", "second")}
    for core in cores.values():
        first_use(core)
    del core
    for name in order:
        del cores[name]
    return signal_stack()


found = {
    "before": signal_stack(),
    "last first": after(use, ("second", "first")),
    "in a thread": after(used_in_a_thread, ("first", "second")),
    "first first": after(use, ("first", "second")),
}
for name, state in found.items():
    print(f"{name}: {state}")
print("openvino", version("openvino"))
assert found == {"before": "none", "last first": "none", "in a thread": "none", "first first": "not mapped"}
PY
echo "as found"
