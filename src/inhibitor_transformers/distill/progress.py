"""Trainer's progress bar with one short line per log, instead of a dictionary of every term."""

from __future__ import annotations

from typing import Any

from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments

_PREFIX = "loss/"
_TIMINGS = ("_runtime", "_per_second")


class TermProgress(ProgressCallback):
    """Shows the loss, its terms and the learning rate; reporters and log.json get every value."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.training_bar is None or not logs or not state.is_world_process_zero:
            return
        if "loss" in logs:
            self.training_bar.write(f"step {state.global_step}: {loss_line(logs)}")
        elif scores := {k: v for k, v in logs.items() if k.startswith("eval_") and not k.endswith(_TIMINGS)}:
            self.training_bar.write("  ".join(f"{k.removeprefix('eval_')} {float(v):.4f}" for k, v in scores.items()))


def loss_line(logs: dict[str, Any]) -> str:
    """ "loss 0.52 = context 0.31 0.11 0.10, lr 1.0e-03": terms of one kind, such as layers, share a name."""
    groups: dict[str, list[str]] = {}
    for key, value in logs.items():
        if key.startswith(_PREFIX):
            groups.setdefault(key.removeprefix(_PREFIX).partition("/")[0], []).append(f"{float(value):.3f}")
    terms = " + ".join(f"{name} {' '.join(values)}" for name, values in groups.items())
    return f"loss {float(logs['loss']):.4f} = {terms}, lr {float(logs['learning_rate']):.1e}"
