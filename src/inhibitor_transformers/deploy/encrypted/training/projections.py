"""Projections to levels, many models beside each other: real numbers first, then ternary weights and tables."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..graph import MAX_TABLE_BITS
from ..levels import Projection, level_tables
from .straight_through import clip_through, ternary

_THRESHOLD = 0.3  # of a weight that counts, where the chosen ones are 1 on average
_SPREAD = 0.8  # standard deviation of levels at first, of half their range


def fan_in(input_qmax: int) -> int:
    """The most weights of one sign for which the table of an output's sums has no more than `MAX_TABLE_BITS`."""
    return (2**MAX_TABLE_BITS - 1) // (2 * input_qmax)


class LevelProjection(nn.Module):
    """Levels low … high of normalized sums x·W, for R models: x (R, B, n, I) to (R, B, n, d), not rounded yet.

    Sums are normalized over the batch in training and by settled moments in evaluation, as in batch normalization:
    weights that change sign would move every threshold otherwise. The moments end up in the tables.
    Not quantized: W real. positions: n if each token has W and tables of its own, else 1. has_bias: without one,
    inputs of 0 give the level 0.
    """

    def __init__(
        self,
        models: int,
        inputs: int,
        outputs: int,
        *,
        positions: int,
        input_qmax: int,
        low: int,
        high: int,
        has_bias: bool = True,
    ) -> None:
        super().__init__()
        self.input_qmax, self.low, self.high, self.has_bias = input_qmax, low, high, has_bias
        middle, half = ((low + high) / 2, (high - low) / 2) if has_bias else (0.0, float(high))
        self.weight = nn.Parameter(torch.randn(models, positions, inputs, outputs, dtype=torch.float64))
        shape = models, 1, positions, outputs
        self.gain = nn.Parameter(torch.full(shape, _SPREAD * half, dtype=torch.float64))
        self.center = nn.Parameter(torch.full(shape, middle, dtype=torch.float64), requires_grad=has_bias)
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(shape, dtype=torch.float64))
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, x: Tensor, quantized: bool) -> Tensor:
        sums = self._sums(x, quantized)
        mean, deviation = self._moments(sums) if self.training else (self.mean, self.deviation)
        scale, bias = self._scale_and_bias(mean, deviation)
        # Multiplied and added in the order of `level_tables`, in float64: the same roundings.
        return clip_through(scale * sums + bias, self.low, self.high)

    @torch.no_grad()
    def begin_quantized(self) -> None:
        """From real weights to ternary ones. What it does to sums, their normalization undoes in mean and deviation."""
        k = min(2 * fan_in(self.input_qmax), self.weight.shape[-2])
        self.weight.div_(self.weight.abs().topk(k, dim=-2).values.mean(-2, keepdim=True))

    @torch.no_grad()
    def settle(self, x: Tensor, quantized: bool) -> None:
        """Moments of evaluation: those of inputs x."""
        mean, deviation = self._moments(self._sums(x, quantized))
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    @torch.no_grad()
    def projection(self, model: int) -> Projection:
        """The integers of one model."""
        weight = self._weights(True)[model].numpy().astype(np.int64)
        reach = fan_in(self.input_qmax) * self.input_qmax
        scale, bias = (t[model].flatten().numpy() for t in self._scale_and_bias(self.mean, self.deviation))
        tables = level_tables(scale, bias, -reach, reach, self.low, self.high)
        positions, outputs = self.mean.shape[2:]
        tables = tables.reshape(positions, outputs, -1)
        return Projection(weight[0], tables[0], -reach) if positions == 1 else Projection(weight, tables, -reach)

    def _weights(self, quantized: bool) -> Tensor:
        return ternary(self.weight, fan_in(self.input_qmax), _THRESHOLD) if quantized else self.weight

    def _sums(self, x: Tensor, quantized: bool) -> Tensor:
        return (x.transpose(1, 2) @ self._weights(quantized)).transpose(1, 2)

    def _moments(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        over = (1, 2) if self.mean.shape[2] == 1 else (1,)
        mean = sums.mean(over, keepdim=True) if self.has_bias else torch.zeros_like(self.mean)
        return mean, ((sums - mean).square().mean(over, keepdim=True) + 1e-2).sqrt()

    def _scale_and_bias(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.gain / deviation
        return scale, self.center - scale * mean if self.has_bias else torch.zeros_like(scale)
