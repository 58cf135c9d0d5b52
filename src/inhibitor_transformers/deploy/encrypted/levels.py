"""Levels: the small integers that tables write, and how several of them share one ciphertext.

A table of b bits has room for 2^b inputs. Where numbers take few values, one ciphertext carries several of them as the
digits of one number, and one table reads all at once. The tables that write the numbers also write their place values,
so that packing costs addition only, and no noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from .graph import Array, Graph, Table, Tensor


@dataclass(frozen=True, eq=False)
class Projection:
    """Ternary weights, and the tables behind them.

    weight: (I, d) of −1, 0, 1, or (n, I, d) if tokens have weights of their own. tables: (d, S) or (n, d, S) int64, the
    level of output feature f at sums first … first + S − 1.
    """

    weight: Array
    tables: Array
    first: int


@dataclass(frozen=True)
class ValueLevels:
    """Values −qmax … qmax, or 0 … qmax if not signed; scores are 0 … qmax."""

    qmax: int
    signed: bool = True


def level_tables(scale: Array, bias: Array, first: int, last: int, low: int, high: int) -> Array:
    """Tables (d, S) with rint(clip(scale·s + bias, low, high)) at s = first … last; scale and bias (d,) floats."""
    sums = np.arange(first, last + 1)
    levels = np.clip(scale[:, None] * sums + bias[:, None], low, high)
    return np.rint(levels).astype(np.int64)


@dataclass(frozen=True)
class Packing:
    """Groups of `group` neighbors among `count` numbers of which each takes `base` values, from `low` on."""

    base: int
    low: int
    count: int
    group: int

    @classmethod
    def widest(cls, low: int, high: int, count: int, max_bits: int) -> Packing:
        """As many numbers in [low, high] a group as one table reads, in groups of one size; at least 1."""
        base = high - low + 1
        fits = [g for g in range(1, count + 1) if count % g == 0 and base**g <= 2**max_bits]
        return cls(base, low, count, max(fits, default=1))

    @property
    def places(self) -> Array:
        """(count,): the place value of each number."""
        return self.base ** (np.arange(self.count) % self.group)

    @property
    def sums(self) -> Array:
        """(count, count / group) of 0 and 1: adds the numbers of each group."""
        return np.repeat(np.eye(self.count // self.group, dtype=np.int64), self.group, 0)

    def table(self, function: Callable[[Array], Array]) -> Table:
        """Σ of function(number) over the numbers of a group."""
        digits = np.array(list(product(range(self.base), repeat=self.group)), dtype=np.int64) + self.low
        # product() counts with its last digit fastest, as numbers do.
        first = self.low * int((self.base ** np.arange(self.group)).sum())
        return Table(function(digits).sum(-1), first)


def project(graph: Graph, name: str, x: Tensor, projection: Projection, places: Array) -> Tensor:
    """Levels (n, d) of x (n, I), each multiplied by `places`, which broadcasts with (n, d)."""
    weight = projection.weight
    if weight.ndim == 2:
        sums = graph.affine(f"{name} sums", x, weight)
    else:
        n, inputs, d = weight.shape
        blocks = np.zeros((n, inputs, n, d), np.int64)
        blocks[np.arange(n), :, np.arange(n)] = weight
        flat = graph.reshape(f"{name} inputs", x, (1, n * inputs))
        of_all = graph.affine(f"{name} sums of all", flat, blocks.reshape(n * inputs, n * d))
        sums = graph.reshape(f"{name} sums", of_all, (n, d))
    tables = projection.tables * places[..., None]
    return graph.lookup(name, sums, Table(tables, projection.first))
