"""The classifier of `classifier.py` with gradients: R models of one architecture beside each other.

Models this small leave a processor waiting for the next call; as one batch, R of them train in the time of few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classifier import IntegerClassifier
from ..levels import ValueLevels
from .attention import Attention, InhibitorAttention, Kind, ReluAttention, SoftmaxAttention
from .projections import LevelProjection
from .straight_through import clip_through, round_through

_HEAD_THRESHOLD = 0.7  # of mean |w|: the ternary weights nearest to normal ones (Li et al., 2016)


@dataclass(frozen=True)
class Architecture:
    """What is the same in all models.

    kind, tied: of attention; tied: keys are the queries. tokens, inputs, width, classes: n, I, d, C. input_qmax: inputs
    are 0 … input_qmax. levels: L of queries and keys. value_levels: of values. head_qmax: of the head's weights.
    pooled: one head for all tokens, and inputs of 0 give values of 0, which is how a client pads.
    """

    kind: Kind
    tied: bool
    tokens: int
    inputs: int
    width: int
    classes: int
    input_qmax: int
    levels: int
    value_levels: ValueLevels
    head_qmax: int = 1
    pooled: bool = False

    @property
    def level_range(self) -> tuple[int, int]:
        """Of queries and keys."""
        low = 0 if self.kind == "inhibitor" else -((self.levels - 1) // 2)
        return low, low + self.levels - 1

    def attention(self, models: int) -> Attention:
        """What maps q, k, v to sums."""
        qmax = self.value_levels.qmax
        if self.kind == "inhibitor":
            return InhibitorAttention(models, qmax)
        reach = self.width * max(abs(level) for level in self.level_range) ** 2
        if self.kind == "relu":
            return ReluAttention(models, qmax, reach)
        return SoftmaxAttention(models, qmax, reach, self.tokens)


class Models(nn.Module):
    """R classifiers. forward: levels (R, B, n, I) to logits (R, B, C) and sums (R, B, n, d).

    vocabulary: if not 0, inputs are numbers of words (R, B, n), −1 for none, whose levels are learned.
    `quantized` decides what forward computes: logits in real numbers, or the very integers of `classifier(r)`.
    """

    def __init__(self, architecture: Architecture, models: int, vocabulary: int = 0) -> None:
        super().__init__()
        self.architecture, self.quantized = architecture, False
        a = architecture
        low, high = a.level_range
        values = a.value_levels

        def projection(low: int, high: int, has_bias: bool = True) -> LevelProjection:
            return LevelProjection(
                models,
                a.inputs,
                a.width,
                positions=1 if a.pooled else a.tokens,
                input_qmax=a.input_qmax,
                low=low,
                high=high,
                has_bias=has_bias,
            )

        start = a.input_qmax * torch.rand(models, vocabulary, a.inputs, dtype=torch.float64)
        self.words = nn.Parameter(start) if vocabulary else None
        self.query = projection(low, high)
        self.key = None if a.tied else projection(low, high)
        self.value = projection(-values.qmax if values.signed else 0, values.qmax, not a.pooled)
        self.attention = a.attention(models)
        rows = a.width if a.pooled else a.tokens * a.width
        self.head = nn.Parameter(torch.randn(models, rows, a.classes, dtype=torch.float64) / rows**0.5)
        self.bias = nn.Parameter(torch.zeros(models, 1, a.classes, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(models, 1, 1, dtype=torch.float64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sums = self.attention(*self._levels(x), self.quantized)
        features = sums.sum(2) if self.architecture.pooled else sums.flatten(2)
        head, bias = self._head()
        return features @ head + bias, sums

    def class_logits(self, logits: Tensor) -> Tensor:
        """Logits in the unit of cross-entropy."""
        return logits * self.log_scale.exp()

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Scales and offsets that use all ranges on inputs x, (R, B, n, I)."""
        if self.key is not None:  # what is alike attends to itself first: each token keeps sums of its own
            self.key.weight.copy_(self.query.weight)
        q, k, v = self._levels(x)
        self.attention.initialize(q, k)
        self.head.div_(self.attention(q, k, v, False).flatten(1).std(1)[:, None, None])

    @torch.no_grad()
    def begin_quantized(self, x: Tensor) -> None:
        """From real numbers to the nearest integers, on inputs x; what follows is trained in integers."""
        for projection in self._projections():
            projection.begin_quantized()
        self.quantized = True
        if isinstance(self.attention, SoftmaxAttention):
            q, k, _ = self._levels(x)
            self.attention.set_end(q @ k.transpose(-1, -2))
        mean = self.head.abs().mean((1, 2), keepdim=True)
        unit = mean * (2 * _HEAD_THRESHOLD) / self.architecture.head_qmax
        self.head.div_(unit)
        self.bias.div_(unit)
        self.log_scale.add_(unit.log())

    @torch.no_grad()
    def settle(self, x: Tensor) -> None:
        """Evaluation normalizes by the moments of inputs x."""
        for projection in self._projections():
            projection.settle(self._inputs(x), self.quantized)

    @torch.no_grad()
    def classifier(self, model: int) -> IntegerClassifier:
        """The integers of one model."""
        a = self.architecture
        head, bias = (t[model].round().numpy().astype(np.int64) for t in self._head(quantized=True))
        return IntegerClassifier(
            tokens=a.tokens,
            input_qmax=a.input_qmax,
            query=self.query.projection(model),
            key=None if self.key is None else self.key.projection(model),
            value=self.value.projection(model),
            levels=a.levels,
            value_levels=a.value_levels,
            scores=self.attention.scores(model),
            head=np.tile(head, (a.tokens, 1, 1)) if a.pooled else head.reshape(a.tokens, a.width, a.classes),
            bias=bias[0],
        )

    def _projections(self) -> list[LevelProjection]:
        return [p for p in (self.query, self.key, self.value) if p is not None]

    @torch.no_grad()
    def word_levels(self, model: int) -> np.ndarray:
        """(V, I) int64: what the encoder of one model looks up. Raises ValueError for models that take no words."""
        if self.words is None:
            raise ValueError("these models take levels, not words")
        return self._all_word_levels(self.words)[model].numpy().astype(np.int64)

    def _all_word_levels(self, words: Tensor) -> Tensor:
        levels = clip_through(words, 0, self.architecture.input_qmax)
        return round_through(levels) if self.quantized else levels

    def _inputs(self, x: Tensor) -> Tensor:
        """Levels (R, B, n, I), of numbers of words where there are words."""
        if self.words is None:
            return x.to(torch.float64)
        padded = F.pad(self._all_word_levels(self.words), (0, 0, 0, 1))  # the last row, number −1, is of no word
        models = torch.arange(len(x))[:, None, None]
        return padded[models, x]

    def _levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self._inputs(x)
        q = self.query(x, self.quantized)
        k = q if self.key is None else self.key(x, self.quantized)
        if self.quantized:
            q, k = round_through(q), round_through(k)
        return q, k, self.value(x, self.quantized)

    def _head(self, quantized: bool | None = None) -> tuple[Tensor, Tensor]:
        if not (self.quantized if quantized is None else quantized):
            return self.head, self.bias
        qmax = self.architecture.head_qmax
        return round_through(clip_through(self.head, -qmax, qmax)), round_through(self.bias)
