"""What a training reports: the memory that it will need, and a line per log, above a bar where one can be drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inhibitor_transformers.distill.training.log_lines import (
    MemoryEstimate,
    TermLines,
    TermProgress,
    estimate_memory,
    log_line,
)
from inhibitor_transformers.distill.training.trainer import NonFiniteLossError
from tests.distill.tiny import FEED_FORWARD, LAYERS, WIDTH, pair
from tests.distill.training.test_trainer import BATCHES, trainer
from tests.terminal import screen, terminal

LOGS = {"loss": 0.5, "loss/attention/layer_0": 0.2, "loss/attention/layer_1": 0.3, "learning_rate": 1e-3}


class OneTerm:
    """A loss that costs nothing; `at_end` is its loss in the last step."""

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


def test_weights_of_both_and_three_more_of_what_is_trained():
    student, teacher, _ = pair()
    for parameter in student.transformer.layer[0].parameters():
        parameter.requires_grad_(False)
    estimate = estimate_memory(student, teacher.model, student.config, 1000)
    ours, theirs = (sum(p.numel() for p in m.parameters()) for m in (student, teacher.model))
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert 0 < trained < ours
    assert estimate.weights == 4 * (ours + theirs)
    assert estimate.gradients_and_optimizer == 12 * trained
    assert estimate.total == estimate.weights + estimate.gradients_and_optimizer + estimate.activations


def test_without_a_teacher():
    student, *_ = pair()
    assert estimate_memory(student, None, student.config, 1).weights == 4 * sum(p.numel() for p in student.parameters())


def test_activations_grow_with_the_tokens_and_hold_what_backward_needs():
    student, teacher, _ = pair()
    one, two = (estimate_memory(student, None, student.config, n).activations for n in (500, 1000))
    assert two == 2 * one
    per_token = LAYERS * (14 * WIDTH + 3 * FEED_FORWARD)  # numbers of 4 bytes
    assert one == 4 * 500 * per_token
    # the teacher's configuration gives the same, by its own names
    assert estimate_memory(teacher.model, None, teacher.model.config, 500).activations == one


def test_it_is_one_line_in_gib():
    line = str(MemoryEstimate(weights=2**30, gradients_and_optimizer=3 * 2**30, activations=2**29))
    assert line == "memory, estimated: 4.50 GiB (weights 1.00, gradients + AdamW 3.00, activations 0.50)"


@pytest.mark.parametrize("tokens", [0, 1])
def test_hardly_any_tokens(tokens):
    student, *_ = pair()
    assert estimate_memory(student, None, student.config, tokens).activations < 2**20
