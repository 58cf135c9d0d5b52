"""Nothing is timed unless the tests of the operation pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TESTS = ("test_cpu.py", "test_reference.py", "integer/test_engines.py")


def require_green_tests() -> None:
    """Run the tests of the operation. Raises SystemExit if one fails."""
    tests = [str(ROOT / "tests" / "attention" / name) for name in _TESTS]
    if subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT, check=False).returncode != 0:
        raise SystemExit("the tests of the operation fail: nothing is reported")
