"""What Trainer shows: a line per log, below it a bar where one can be drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inhibitor_transformers.distill.training.log_lines import TermLines, TermProgress, log_line
from inhibitor_transformers.distill.training.trainer import NonFiniteLossError
from tests.distill.test_objectives import pair
from tests.distill.training.test_trainer import BATCHES, trainer
from tests.terminal import screen, terminal

LOGS = {"loss": 0.5, "loss/attention/layer_0": 0.2, "loss/attention/layer_1": 0.3, "learning_rate": 1e-3}


class OneTerm:
    """An objective that costs nothing; `at_end` is its loss in the last step."""

    def __init__(self, at_end: float = 0.5) -> None:
        self.at_end, self.calls = at_end, 0

    def __call__(self, student: Any, batch: Any, count: Any) -> dict[str, torch.Tensor]:
        self.calls += 1
        value = self.at_end if self.calls == 2 else 0.5
        return {"term": student.transformer.layer[0].attention.q_lin.bias.sum() * 0 + value}


@pytest.mark.parametrize("quiet", [False, True])
def test_a_file_gets_lines(quiet, capsys, tmp_path):
    """It got a bar, all in one line with a carriage return for every step; with disable_tqdm, dictionaries."""
    trainer(pair()[0], OneTerm(), tmp_path, BATCHES[:2], disable_tqdm=quiet).train()
    written = capsys.readouterr()
    line = "step {} of 2: loss 0.5000 = term 0.500, lr 1.0e-03"
    assert written.out == f"{line.format(1)}\n{line.format(2)}\n"
    assert written.err == ""


def test_a_terminal_has_a_bar_and_the_same_lines(tmp_path, monkeypatch):
    with terminal(monkeypatch, "stdout", "stderr") as shown:
        trainer(pair()[0], OneTerm(), tmp_path, BATCHES[:2], disable_tqdm=False).train()
    lines = [line for line in screen(shown.close()) if line]
    assert [line[:29] for line in lines[:2]] == [f"step {i} of 2: loss 0.5000 = te" for i in (1, 2)]
    assert lines[2].startswith("100%|")
    assert len(lines) == 3


def test_an_error_is_not_written_into_the_bar(tmp_path, monkeypatch):
    with terminal(monkeypatch, "stdout", "stderr") as shown:
        made = trainer(pair()[0], OneTerm(float("nan")), tmp_path, BATCHES[:2], disable_tqdm=False)
        with pytest.raises(NonFiniteLossError):
            made.train()
        shown.stream.write("error: not finite\n")
    assert "error: not finite" in screen(shown.close())


@pytest.mark.parametrize("callback", [TermLines(), TermProgress()])
def test_other_processes_say_nothing(callback, capsys):
    state = SimpleNamespace(is_world_process_zero=False, global_step=1, max_steps=2)
    callback.on_log(None, state, None, logs=LOGS)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("logs", "line"),
    [
        (None, ""),
        ({"train_runtime": 3.0}, ""),
        (LOGS, "step 3 of 7: loss 0.5000 = attention 0.200 0.300, lr 1.0e-03"),
        ({"eval_accuracy": 0.75, "eval_runtime": 2.0, "eval_samples_per_second": 9.0}, "accuracy 0.7500"),
    ],
)
def test_the_line_of_a_log(logs, line):
    assert log_line(SimpleNamespace(global_step=3, max_steps=7), logs) == line
