"""What a training reports: the memory that it will need, and one short line per log of Trainer.

The line stands in place of a dictionary of every term, above a bar where one can be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import (
    PretrainedConfig,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ...models.architectures import find_field

_PREFIX = "loss/"
_TIMINGS = ("_runtime", "_per_second")
_GIB = 1024**3


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
    """The loss or the scores of a log; "" if it holds neither."""
    if not logs:
        return ""
    if "loss" in logs:
        return f"step {state.global_step} of {state.max_steps}: {loss_line(logs)}"
    scores = {k: v for k, v in logs.items() if k.startswith("eval_") and not k.endswith(_TIMINGS)}
    return "  ".join(f"{k.removeprefix('eval_')} {float(v):.4f}" for k, v in scores.items())


def loss_line(logs: dict[str, Any]) -> str:
    """ "loss 0.52 = attention 0.31 0.11 0.10, lr 1.0e-03": terms of one kind, such as layers, share a name."""
    groups: dict[str, list[str]] = {}
    for key, value in logs.items():
        if key.startswith(_PREFIX):
            groups.setdefault(key.removeprefix(_PREFIX).partition("/")[0], []).append(f"{float(value):.3f}")
    terms = " + ".join(f"{name} {' '.join(values)}" for name, values in groups.items())
    return f"loss {float(logs['loss']):.4f} = {terms}, lr {float(logs['learning_rate']):.1e}"


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes. An estimate from shapes, not a measurement."""

    weights: int
    gradients_and_optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients_and_optimizer + self.activations

    def __str__(self) -> str:
        parts = (
            ("weights", self.weights),
            ("gradients + AdamW", self.gradients_and_optimizer),
            ("activations", self.activations),
        )
        return (
            f"memory, estimated: {self.total / _GIB:.2f} GiB ("
            + ", ".join(f"{n} {b / _GIB:.2f}" for n, b in parts)
            + ")"
        )


def estimate_memory(
    student: nn.Module, teacher: nn.Module | None, config: PretrainedConfig, tokens: int
) -> MemoryEstimate:
    """Memory of training `student` (its trainable parameters) on `tokens` tokens at once in float32.

    Weights of both models; a gradient and AdamW's two moments per trainable parameter; activations kept for
    the backward pass: per layer and token about 14 vectors of the hidden size (projections, residuals, norms,
    dropout) and 3 of the feed-forward size.
    """
    weights = sum(p.numel() * p.element_size() for m in (student, teacher) if m is not None for p in m.parameters())
    trained = sum(p.numel() * p.element_size() for p in student.parameters() if p.requires_grad)
    hidden = config.hidden_size
    name = find_field(config, "hidden_dim")
    feed_forward = 4 * hidden if name is None else getattr(config, name)
    activations = 4 * tokens * config.num_hidden_layers * (14 * hidden + 3 * feed_forward)
    return MemoryEstimate(weights, 3 * trained, activations)
