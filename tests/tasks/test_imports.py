"""Importing the tasks is light, so that a command's help does not wait for libraries it will not use."""

import subprocess
import sys

HEAVY = ("datasets", "transformers", "sklearn", "scipy", "pyarrow", "pandas")


def test_importing_tasks_imports_no_heavy_library():
    code = f"import sys, inhibitor_transformers.tasks; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
