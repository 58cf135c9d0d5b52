"""What the workflows run exists: targets of make, tests and files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.docs.test_flags import fault

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def steps(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [])]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_commands(workflow: Path) -> None:
    commands = [line for step in steps(workflow) for line in step.get("run", "").splitlines()]
    assert commands
    assert not [wrong for line in commands if (wrong := fault(shlex.split(line)))]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_have_a_version(workflow: Path) -> None:
    actions = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert actions
    assert not [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action)]
