"""What a run will need, estimated before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig

_GIB = 1024**3


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
    feed_forward = getattr(config, "hidden_dim", None) or getattr(config, "intermediate_size", 4 * hidden)
    activations = 4 * tokens * config.num_hidden_layers * (14 * hidden + 3 * feed_forward)
    return MemoryEstimate(weights, 3 * trained, activations)
