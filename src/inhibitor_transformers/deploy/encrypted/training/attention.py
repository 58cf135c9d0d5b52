"""Attention over levels, many models beside each other: the integers of `attention.py` and `dot_product.py`, trained.

Each module maps q, k, v, (R, B, n, d), to sums A of the same shape, and hands out the integers of one model. Not
quantized, the scores are what they are before they are rounded.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..attention import InhibitorScores
from ..dot_product import ReluScores, SoftmaxScores
from ..graph import MAX_TABLE_BITS, Table
from .straight_through import clip_through, round_through, straight_through

Kind = Literal["inhibitor", "softmax", "relu"]
KINDS: tuple[Kind, ...] = ("inhibitor", "softmax", "relu")
_ROOM = 2**MAX_TABLE_BITS - 1  # the widest range that a table reads


class Attention(nn.Module):
    """qmax: of scores. variants: what each of the models tries, by its number modulo their count."""

    def __init__(self, models: int, qmax: int, variants: tuple[float, ...]) -> None:
        super().__init__()
        self.qmax = qmax
        numbers = [variants[model % len(variants)] for model in range(models)]
        self.register_buffer("variant", torch.tensor(numbers, dtype=torch.float64)[:, None, None, None])
        self.variant: Tensor

    @abstractmethod
    def initialize(self, q: Tensor, k: Tensor) -> None:
        """Scores that use their range, on q and k of some examples."""

    @abstractmethod
    def scores(self, model: int) -> InhibitorScores | SoftmaxScores | ReluScores:
        """The integers of one model."""


class InhibitorAttention(Attention):
    """Manhattan distances, divided by 2^s and moved by δ, shrink the values.

    δ is learned. The variants are added to the shift s at which scores of mean distances end at qmax.
    """

    def __init__(self, models: int, qmax: int, more_shift: tuple[float, ...] = (0, 1)) -> None:
        super().__init__(models, qmax, more_shift)
        self.delta = nn.Parameter(torch.zeros_like(self.variant))
        self.register_buffer("shift", torch.zeros_like(self.variant))
        self.shift: Tensor

    def forward(self, q: Tensor, k: Tensor, v: Tensor, quantized: bool) -> Tensor:
        distance = self._distances(q, k)
        z = clip_through((distance + self.delta) / 2**self.shift, 0, self.qmax)
        sums = _shrink(v, z)
        if not quantized:
            return sums
        with torch.no_grad():
            shifted = (distance + torch.round(self.delta)).clamp(min=0) / 2**self.shift
            exact = _shrink(torch.round(v), torch.floor(shifted + 0.5).clamp(max=self.qmax))
        # Gradients are taken before rounding: a value that is rounded to 0 would have none.
        return straight_through(exact, sums)

    @torch.no_grad()
    def initialize(self, q: Tensor, k: Tensor) -> None:
        distance = self._distances(q, k).mean((1, 2, 3), keepdim=True)
        self.shift.copy_(torch.floor(torch.log2(distance / self.qmax)) + self.variant)
        self.delta.copy_(self.qmax * 2**self.shift - distance)

    def scores(self, model: int) -> InhibitorScores:
        return InhibitorScores(int(torch.round(self.delta[model])), int(self.shift[model]))

    @staticmethod
    def _distances(q: Tensor, k: Tensor) -> Tensor:
        return (q[:, :, :, None] - k[:, :, None]).abs().sum(-1)


def _shrink(v: Tensor, z: Tensor) -> Tensor:
    """Σ_j sign(v_jk)·max(|v_jk| − Z_ij, 0)."""
    v, z = v[:, :, None], z[..., None]
    return (v.sign() * (v.abs() - z).clamp(min=0)).sum(3)


class DotProductAttention(Attention):
    """Scores are tables of products q·k within ±reach. The variants differ between the kinds."""

    def __init__(self, models: int, qmax: int, reach: int, variants: tuple[float, ...]) -> None:
        super().__init__(models, qmax, variants)
        self.reach = reach

    def forward(self, q: Tensor, k: Tensor, v: Tensor, quantized: bool) -> Tensor:
        product = q @ k.transpose(-1, -2)
        weight = clip_through(self.real(product), 0, self.qmax)
        if quantized:
            weight = straight_through(self.exact(product.detach()), weight)
            v = round_through(v)
        return weight @ v

    @abstractmethod
    def real(self, product: Tensor) -> Tensor:
        """P before it is clipped and rounded."""

    @abstractmethod
    def exact(self, product: Tensor) -> Tensor:
        """P by tables of integers."""

    def products(self) -> Tensor:
        """Every product that there is, (1, T)."""
        return torch.arange(-self.reach, self.reach + 1, dtype=torch.float64)[None]


class ReluAttention(DotProductAttention):
    """P = gain·(S − θ), clipped. The variants are the standard deviations of S in which P goes from 0 to qmax."""

    def __init__(self, models: int, qmax: int, reach: int, widths: tuple[float, ...] = (2, 4)) -> None:
        super().__init__(models, qmax, reach, widths)
        self.gain = nn.Parameter(torch.ones_like(self.variant))
        self.threshold = nn.Parameter(torch.zeros_like(self.variant))

    def real(self, product: Tensor) -> Tensor:
        return self.gain * (product - self.threshold)

    def exact(self, product: Tensor) -> Tensor:
        return _read(self._table(), product, -self.reach)

    @torch.no_grad()
    def initialize(self, q: Tensor, k: Tensor) -> None:
        product = (q @ k.transpose(-1, -2)).flatten(1)
        deviation, mean = product.std(1)[:, None, None, None], product.mean(1)[:, None, None, None]
        self.gain.copy_(self.qmax / (self.variant * deviation))
        self.threshold.copy_(mean - self.variant * deviation / 2)

    def scores(self, model: int) -> ReluScores:
        return ReluScores(Table(_integers(self._table()[model]), -self.reach), self.qmax)

    @torch.no_grad()
    def _table(self) -> Tensor:
        gain, threshold = self.gain[:, :, 0, 0], self.threshold[:, :, 0, 0]
        return torch.round((gain * (self.products() - threshold)).clamp(0, self.qmax))


class SoftmaxAttention(DotProductAttention):
    """P = gain·softmax(t·S), clipped, in the log domain:

        E = emax·exp(t·(S − c)) at most emax,  L = c + log(ΣE / emax) / t,  P = gain·exp(t·(S − L))

    each a table, rounded. t and gain are learned; c, where exponentials end, is a quantile of the greatest S of each
    query: the variants are these quantiles.
    """

    def __init__(
        self, models: int, qmax: int, reach: int, tokens: int, quantiles: tuple[float, ...] = (0.7, 0.95)
    ) -> None:
        super().__init__(models, qmax, reach, quantiles)
        self.tokens, self.exp_qmax = tokens, _ROOM // tokens
        self.log_temperature = nn.Parameter(torch.zeros_like(self.variant))
        self.log_gain = nn.Parameter(torch.zeros_like(self.variant))
        self.register_buffer("end", torch.zeros_like(self.variant))
        self.end: Tensor

    def real(self, product: Tensor) -> Tensor:
        return self.log_gain.exp() * torch.softmax(self.log_temperature.exp() * product, -1)

    def exact(self, product: Tensor) -> Tensor:
        exponential, logarithm, probability, first = self._tables()
        total = _read(exponential, product, -self.reach).sum(-1, keepdim=True)
        return _read_each(probability, product - _read(logarithm, total, 0), first)

    @torch.no_grad()
    def initialize(self, q: Tensor, k: Tensor) -> None:
        product = q @ k.transpose(-1, -2)
        temperature = 1 / product.flatten(1).std(1).clamp(min=0.5)
        self.log_temperature.copy_(temperature.log()[:, None, None, None])
        self.log_gain.fill_(float(np.log(self.qmax * self.tokens / 2)))  # equal scores give half of the greatest P
        self.set_end(product)

    @torch.no_grad()
    def set_end(self, product: Tensor) -> None:
        """c from products (R, B, n, n)."""
        greatest = product.amax(-1).flatten(1)
        ends = [torch.quantile(row, float(q)) for row, q in zip(greatest, self.variant.flatten(), strict=True)]
        self.end.copy_(torch.round(torch.stack(ends))[:, None, None, None])

    def scores(self, model: int) -> SoftmaxScores:
        exponential, logarithm, probability, first = self._tables()
        return SoftmaxScores(
            Table(_integers(exponential[model]), -self.reach),
            Table(_integers(logarithm[model]), 0),
            Table(_integers(probability[model]), int(first[model])),
            self.qmax,
        )

    @torch.no_grad()
    def _tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of E, L and P, (R, T), and the first S − L, (R,), of the last one."""
        temperature, end, gain = (x[:, :, 0, 0] for x in (self.log_temperature.exp(), self.end, self.log_gain.exp()))
        exponential = torch.round(
            (self.exp_qmax * torch.exp(temperature * (self.products() - end))).clamp(max=self.exp_qmax)
        )
        total = torch.arange(self.exp_qmax * self.tokens + 1, dtype=torch.float64)
        logarithm = torch.round(end + torch.log(total.clamp(min=0.5) / self.exp_qmax) / temperature)
        # S − L has to be read by one table: small sums share their logarithm.
        greatest = logarithm[:, -1:]
        logarithm = torch.maximum(logarithm, greatest - (_ROOM - 2 * self.reach))
        first = -self.reach - greatest
        relative = first + torch.arange(_ROOM + 1, dtype=torch.float64)
        probability = torch.round((gain * torch.exp(temperature * relative)).clamp(max=self.qmax))
        return exponential, logarithm, probability, first[:, 0]


def _read(table: Tensor, x: Tensor, first: int) -> Tensor:
    """table[r, x − first] of x, (R, …)."""
    return _read_each(table, x, torch.full(table.shape[:1], float(first), dtype=torch.float64))


def _read_each(table: Tensor, x: Tensor, first: Tensor) -> Tensor:
    position = (x.flatten(1) - first[:, None]).long()
    return table.gather(1, position).reshape(x.shape)


def _integers(table: Tensor) -> np.ndarray:
    return table.numpy().astype(np.int64)
