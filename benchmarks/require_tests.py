"""Nothing is timed unless the tests of the operation pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TESTS = ("test_cpu.py", "test_cpu_long.py", "test_reference.py", "integer/test_engines.py")
_GPU_TESTS = ("triton", "test_reference.py")


def require_passing_tests(*, gpu: bool = False) -> None:
    """Run the tests of the operation, on a GPU those of its engine. Raises SystemExit if one fails."""
    tests = [str(ROOT / "tests" / "attention" / name) for name in (_GPU_TESTS if gpu else _TESTS)]
    every = ["-m", ""] if gpu else []
    if subprocess.run([sys.executable, "-m", "pytest", "-q", *every, *tests], cwd=ROOT, check=False).returncode != 0:
        raise SystemExit("the tests of the operation fail: nothing is reported")
