"""Numbers that would fail late, raw or with a crash are refused at once, by the name of the flag."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize(
    "command",
    [
        ("quickstart", "-o", "out"),
        ("convert", "a", "out"),
        ("distill", "a.yaml", "-o", "out"),
        ("finetune", "a", "--task", "cola", "-o", "out"),
        ("evaluate", "a", "--task", "cola"),
        ("quantize", "a", "out"),
    ],
)
def test_a_seed(seed, command, inhibit):
    done = inhibit(*command, "--seed", str(seed))
    assert done.status == 2
    assert "'--seed'" in done.err
    assert "Traceback" not in done.err


def test_a_batch_of_nothing(inhibit):
    done = inhibit("finetune", "a", "--task", "cola", "-o", "out", "--batch-size", "0")
    assert done.status == 2
    assert "'--batch-size'" in done.err


@pytest.mark.parametrize(
    "command",
    [
        ("quickstart", "-o", "out"),
        ("convert", "a", "out"),
        ("convert", "a", "out", "--softmax"),
        ("finetune", "a", "--task", "cola", "-o", "out"),
        ("evaluate", "a", "--task", "cola"),
        ("quantize", "a", "out"),
        ("export", "a", "out"),
        ("study", "a.yaml", "-o", "out"),
    ],
)
def test_more_threads_than_are_of_use(command, refused, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    message = refused(*command, "--threads", "100000")
    assert message == (
        "error: --threads 100000: more than 8 threads (4 for each of this machine's processors) would only wait for "
        "each other"
    )
