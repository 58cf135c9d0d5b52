"""One short line per log of Trainer, instead of a dictionary of every term; below a bar where one can be drawn."""

from __future__ import annotations

from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_PREFIX = "loss/"
_TIMINGS = ("_runtime", "_per_second")


class TermProgress(ProgressCallback):
    """Trainer's bar, with `log_line` above it; reporters and log.json get every value."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.training_bar is not None and state.is_world_process_zero and (line := log_line(state, logs)):
            self.training_bar.write(line)

    def close(self) -> None:
        """End the bars of a training that did not come to its end."""
        for name in ("prediction_bar", "training_bar"):
            if (bar := getattr(self, name)) is not None:
                bar.close()
            setattr(self, name, None)


class TermLines(TrainerCallback):
    """The same lines without a bar, for files, pipes and logs."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and (line := log_line(state, logs)):
            print(line, flush=True)


def log_line(state: TrainerState, logs: dict[str, Any] | None) -> str:
    """What a log says of the loss or of the scores; "" if it is of neither."""
    if not logs:
        return ""
    if "loss" in logs:
        return f"step {state.global_step} of {state.max_steps}: {loss_line(logs)}"
    scores = {k: v for k, v in logs.items() if k.startswith("eval_") and not k.endswith(_TIMINGS)}
    return "  ".join(f"{k.removeprefix('eval_')} {float(v):.4f}" for k, v in scores.items())


def loss_line(logs: dict[str, Any]) -> str:
    """ "loss 0.52 = context 0.31 0.11 0.10, lr 1.0e-03": terms of one kind, such as layers, share a name."""
    groups: dict[str, list[str]] = {}
    for key, value in logs.items():
        if key.startswith(_PREFIX):
            groups.setdefault(key.removeprefix(_PREFIX).partition("/")[0], []).append(f"{float(value):.3f}")
    terms = " + ".join(f"{name} {' '.join(values)}" for name, values in groups.items())
    return f"loss {float(logs['loss']):.4f} = {terms}, lr {float(logs['learning_rate']):.1e}"
