"""Dot-product attention as a graph, with the same care: the baselines of `attention.py`.

    S_ij = Σ_f q_if·k_jf
    softmax in the log domain   E_ij = T_e[S_ij],  L_i = T_l[Σ_j E_ij],  P_ij = T_p[S_ij − L_i]
    or ReLU                     P_ij = T[S_ij]
    A_ik = Σ_j P_ij·v_jk

Ciphertexts cannot be multiplied, only looked up. Two ways to a product of levels, each with as many products in one
table as it can read (`levels.Packing`):

    quarter squares   x·y = ⌊(x + y)²/4⌋ − ⌊(x − y)²/4⌋, two tables; what the encryption library does for x·y
    pairs             one table that reads x and y as the digits of one number, where their values are few enough
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .graph import Array, Graph, Table, Tensor
from .levels import Packing, Projection, ValueLevels, project

# "cheapest": whichever needs fewer tables. "unpacked": quarter squares, one product a table, as in earlier work.
Products = Literal["cheapest", "quarter_squares", "unpacked"]


@dataclass(frozen=True, eq=False)
class SoftmaxScores:
    """exponential: of S. logarithm: of the sum of a row's exponentials. probability: of S − L. qmax: the greatest P."""

    exponential: Table
    logarithm: Table
    probability: Table
    qmax: int


@dataclass(frozen=True, eq=False)
class ReluScores:
    """weight: of S. qmax: the greatest P."""

    weight: Table
    qmax: int


@dataclass(frozen=True)
class Range:
    """Whole numbers low … high."""

    low: int
    high: int

    @property
    def count(self) -> int:
        return self.high - self.low + 1


@dataclass(frozen=True)
class ProductTables:
    """How Σ x·y over `count` pairs is looked up: `method`, and the packing of the numbers that a table reads."""

    method: Literal["quarter_squares", "pairs"]
    x: Range
    y: Range
    packing: Packing

    @property
    def tables(self) -> int:
        """Lookups for all pairs."""
        return self.packing.count // self.packing.group * (2 if self.method == "quarter_squares" else 1)

    @classmethod
    def choose(cls, x: Range, y: Range, count: int, products: Products, max_bits: int) -> ProductTables:
        """The fewest lookups that `products` and tables of `max_bits` allow."""
        squares = cls("quarter_squares", x, y, Packing.widest(x.low + y.low, x.high + y.high, count, max_bits))
        if products == "unpacked":
            return replace(squares, packing=replace(squares.packing, group=1))
        pairs = cls("pairs", x, y, Packing.widest(0, x.count * y.count - 1, count, max_bits))
        fits = pairs.packing.base <= 2**max_bits
        return pairs if products == "cheapest" and fits and pairs.tables <= squares.tables else squares

    @property
    def x_places(self) -> Array:
        """(count,): what x has to be multiplied by; in pairs it is the upper digit."""
        return self.packing.places * (self.y.count if self.method == "pairs" else 1)

    def sum(self, graph: Graph, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Σ x·y of each group of pairs, of x and y that broadcast, both added up by group already."""
        if self.method == "pairs":
            return graph.lookup(name, graph.add(f"{name}: pair", x, y), self._pair_table())
        of_difference = replace(self.packing, low=self.x.low - self.y.high)  # as many values as the sum takes
        plus = graph.lookup(f"{name}: (x + y)²/4", graph.add(f"{name}: x + y", x, y), self.packing.table(_quarter))
        minus = graph.lookup(
            f"{name}: (x − y)²/4", graph.subtract(f"{name}: x − y", x, y), of_difference.table(_quarter)
        )
        return graph.subtract(name, plus, minus)

    def _pair_table(self) -> Table:
        offset = self.x.low * self.y.count + self.y.low
        places = self.packing.base ** np.arange(self.packing.group)
        table = self.packing.table(
            lambda number: (number // self.y.count + self.x.low) * (number % self.y.count + self.y.low)
        )
        return Table(table.values, table.first + offset * int(places.sum()))


def dot_product_terms(
    graph: Graph,
    x: Tensor,
    projections: tuple[Projection, Projection | None, Projection],
    levels: int,
    value_levels: ValueLevels,
    scores: SoftmaxScores | ReluScores,
    products: Products,
) -> Tensor:
    """A's terms, (n, groups of keys, d), of a client's levels (n, I); projections of q, k (None: tied) and v."""
    query, key, value = projections
    features, n = query.weight.shape[-1], x.shape[0]
    half = (levels - 1) // 2
    level = Range(-half, levels - 1 - half)
    if key is None:
        score = _tied_products(graph, x, query, level, products)
    else:
        tables = ProductTables.choose(level, level, features, products, graph.max_table_bits)
        q = project(graph, "q", x, query, tables.x_places)
        k = project(graph, "k", x, key, tables.packing.places)
        score = _all_products(graph, q, k, tables)
    values = Range(-value_levels.qmax if value_levels.signed else 0, value_levels.qmax)
    tables = ProductTables.choose(Range(0, scores.qmax), values, n, products, graph.max_table_bits)
    p = (
        _softmax(graph, score, scores, tables.x_places)
        if isinstance(scores, SoftmaxScores)
        else graph.lookup("P", score, _placed(scores.weight, tables.x_places))
    )
    v = project(graph, "v", x, value, tables.packing.places[:, None])
    return _weighted(graph, p, v, tables)


def _all_products(graph: Graph, q: Tensor, k: Tensor, tables: ProductTables) -> Tensor:
    """S, (n, m)."""
    q, k = (graph.affine(f"{name} by group", t, tables.packing.sums) for name, t in (("q", q), ("k", k)))
    (n, groups), m = q.shape, k.shape[0]
    q = graph.reshape("q of each pair", q, (n, 1, groups))
    k = graph.reshape("k of each pair", k, (1, m, groups))
    return graph.sum("S", tables.sum(graph, "q·k", q, k), 2)


def _tied_products(graph: Graph, x: Tensor, query: Projection, level: Range, products: Products) -> Tensor:
    """S, (n, n), of queries that are their own keys: each pair once, and plain squares for i = j.

    By quarter squares always: with pairs, q would be looked up twice, once for each digit.
    """
    products = "quarter_squares" if products == "cheapest" else products
    tables = ProductTables.choose(level, level, query.weight.shape[-1], products, graph.max_table_bits)
    q = project(graph, "q", x, query, tables.packing.places)
    q = graph.affine("q by group", q, tables.packing.sums)
    n = q.shape[0]
    first, second = np.triu_indices(n, 1)
    pairs = tables.sum(graph, "q·k", graph.take("q of each pair", q, first), graph.take("k of each pair", q, second))
    # Numbers beyond the levels never occur, but lie between those that do: they must not widen what is proven.
    squares = graph.lookup("q·q", q, tables.packing.table(lambda number: np.clip(number, level.low, level.high) ** 2))
    of_pairs = graph.reshape("S of pairs", graph.sum("q·k of pairs", pairs, 1), (1, len(first)))
    of_squares = graph.reshape("S of squares", graph.sum("q·q of tokens", squares, 1), (1, n))
    spread = np.zeros((len(first), n, n), np.int64)
    pair = np.arange(len(first))
    spread[pair, first, second] = spread[pair, second, first] = 1
    diagonal = np.zeros((n, n, n), np.int64)
    diagonal[np.arange(n), np.arange(n), np.arange(n)] = 1
    total = graph.add(
        "S of all",
        graph.affine("S of pairs, spread", of_pairs, spread.reshape(-1, n * n)),
        graph.affine("S of squares, spread", of_squares, diagonal.reshape(-1, n * n)),
    )
    return graph.reshape("S", total, (n, n))


def _softmax(graph: Graph, score: Tensor, scores: SoftmaxScores, places: Array) -> Tensor:
    """P, (n, m), each multiplied by the place value of its key."""
    exponentials = graph.lookup("exp S", score, scores.exponential)
    logarithm = graph.lookup("log Σ exp S", graph.sum("Σ exp S", exponentials, 1), scores.logarithm)
    relative = graph.subtract("S − L", score, graph.reshape("L", logarithm, (score.shape[0], 1)))
    return graph.lookup("P", relative, _placed(scores.probability, places))


def _placed(table: Table, places: Array) -> Table:
    """A table for each key, multiplied by its place value: for (n, m) inputs."""
    return Table(table.values * places[None, :, None], table.first)


def _weighted(graph: Graph, p: Tensor, v: Tensor, tables: ProductTables) -> Tensor:
    """A's terms, (n, groups of keys, d), of P (n, m) and v (m, d)."""
    (m, d), n, packing = v.shape, p.shape[0], tables.packing
    groups = m // packing.group
    v = graph.sum("v of groups", graph.reshape("v by group", v, (groups, packing.group, d)), 1)
    p = graph.affine("P by group", p, packing.sums)
    v = graph.reshape("v of each pair", v, (1, groups, d))
    p = graph.reshape("P of each pair", p, (n, groups, 1))
    return tables.sum(graph, "P·v", p, v)


def _quarter(number: Array) -> Array:
    return number**2 // 4
