"""Runs `inhibit` within the test process, and makes tiny models on disk."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from transformers import AutoModel

from inhibitor_transformers.cli import main
from inhibitor_transformers.common import progress
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.tiny import bert, saved, sentences, text_file
from tests.terminal import screen, terminal


class Done(NamedTuple):
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


Inhibit = Callable[..., Done]


@pytest.fixture
def inhibit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inhibit:
    """`inhibit("convert", "minilm", …)` as on the command line, written to files that are 200 columns wide."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(progress, "_FIRST_LINE", math.inf)  # however slow the machine is
    monkeypatch.delenv("INHIBIT_TRACEBACK", raising=False)

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["inhibit", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capsys.readouterr()
        assert not set("\r\x1b") & set(captured.out + captured.err), "bars and colors are for terminals"
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def phases(inhibit: Inhibit, monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    """Runs a command with stderr on a terminal; returns what its bars counted, once none is left on the screen."""

    def run(*arguments: str | Path) -> set[str]:
        with terminal(monkeypatch, "stderr") as shown:
            done = inhibit(*arguments)
        written = shown.close()
        assert done.status == 0, written
        # Trainer's bar stays
        assert not any(line for line in screen(written) if "it/s" not in line and "s/it" not in line), written
        return set(re.findall(r"([a-z][a-z0-9.' ]*?) \d+[/, ]", written))

    return run


@pytest.fixture
def refused(inhibit: Inhibit) -> Callable[..., str]:
    """Runs a command that must fail as a user's mistake does: status 2, one line on stderr; returns that line."""

    def run(*arguments: str | Path) -> str:
        done = inhibit(*arguments)
        assert done.status == 2, done
        assert done.err.startswith("error: "), done.err
        assert done.err.count("\n") == 1, done.err
        assert "Traceback" not in done.out + done.err
        return done.err.strip()

    return run


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> str:
    """A BERT encoder and its tokenizer."""
    return saved(bert(), tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def student(tmp_path_factory, teacher) -> str:
    """An inhibitor encoder made from `teacher`."""
    model = InhibiDistilBertModel.from_teacher(AutoModel.from_pretrained(teacher))
    return saved(model, tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> str:
    """A text file whose texts reach 256 tokens."""
    return text_file(tmp_path_factory.mktemp("texts"), sentences(200, clauses=(2, 60)))
