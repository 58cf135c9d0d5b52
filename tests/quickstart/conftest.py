"""One quickstart with a tiny teacher and few steps."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from inhibitor_transformers.quickstart import run_quickstart
from inhibitor_transformers.report import DistillationReport
from tests.distill.conftest import teacher_path

__all__ = ["teacher_path"]


class Quickstart(NamedTuple):
    """What it returned, its folder, and what it logged."""

    report: DistillationReport
    folder: Path
    lines: list[str]


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory, teacher_path) -> Quickstart:
    folder, lines = tmp_path_factory.mktemp("quickstart") / "run", []
    runtime = {"use_cpu": True, "disable_tqdm": True, "logging_steps": 2}
    report = run_quickstart(teacher_path, folder, steps=4, seed=3, runtime=runtime, log=lines.append)
    return Quickstart(report, folder, lines)
