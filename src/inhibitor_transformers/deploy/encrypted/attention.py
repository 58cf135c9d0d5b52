"""Inhibitor attention as a graph: the integer specification of `attention/integer/reference.py`, table by table.

    D_ij = Σ_f |q_if − k_jf|                     a table for each pair and group of features
    M_i  = ⌊(2 Σ_j D_ij + n) / 2n⌋               centered only: a table for each query
    Z_ij = min(⌊max(σ(D_ij − M_i) + δ, 0) / 2^s + ½⌋, qmax)                   a table for each pair
    A_ik = Σ_j sign(v_jk)·max(|v_jk| − Z_ij, 0)  a table for each pair, feature and group of keys

Both |q − k| and the shrinkage of v by Z depend on one difference, which is why each needs one table where a product
needs two. A signed v is folded first, C(v) = v or 2·qmax + |v| for v < 0, so that C(v) − Z tells its sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .graph import Array, Graph, Table, Tensor
from .levels import Packing, ValueLevels


@dataclass(frozen=True)
class InhibitorScores:
    """delta: δ, in units of distance. shift: s, negative for a shift to the left. sign: σ. centered: with M_i."""

    delta: int
    shift: int
    sign: int = 1
    centered: bool = False


def fold(v: Array, levels: ValueLevels) -> Array:
    """C(v)."""
    return np.where(v < 0, 2 * levels.qmax - v, v)


def key_packing(levels: ValueLevels, keys: int, max_bits: int) -> Packing:
    """How the differences C(v) − Z of several keys share a table."""
    highest = 3 * levels.qmax if levels.signed else levels.qmax
    return Packing.widest(-levels.qmax, highest, keys, max_bits)


def distances(graph: Graph, q: Tensor, k: Tensor, packing: Packing) -> Tensor:
    """D, (n, m), of q (n, F) and k (m, F), which were multiplied by the place values of `packing`."""
    q, k = _packed_features(graph, "q", q, packing), _packed_features(graph, "k", k, packing)
    (n, groups), m = q.shape, k.shape[0]
    difference = graph.subtract(
        "q − k",
        graph.reshape("q of each pair", q, (n, 1, groups)),
        graph.reshape("k of each pair", k, (1, m, groups)),
    )
    return graph.sum("D", graph.lookup("|q − k|", difference, packing.table(np.abs)), 2)


def tied_distances(graph: Graph, q: Tensor, packing: Packing) -> tuple[Tensor, Array]:
    """D of queries that are their own keys: (1, pairs) for i < j, and (n, n) numbers of these pairs, −1 at i = j."""
    q = _packed_features(graph, "q", q, packing)
    first, second = np.triu_indices(q.shape[0], 1)
    difference = graph.subtract(
        "q − k", graph.take("q of each pair", q, first), graph.take("k of each pair", q, second)
    )
    distance = graph.sum("D of pairs", graph.lookup("|q − k|", difference, packing.table(np.abs)), 1)
    pair = np.full((q.shape[0], q.shape[0]), -1)
    pair[first, second] = pair[second, first] = np.arange(len(first))
    return graph.reshape("D", distance, (1, len(first))), pair


def scores(graph: Graph, distance: Tensor, settings: InhibitorScores, qmax: int, places: Array) -> Tensor:
    """Z, (n, m), of D, (n, m), each multiplied by the place value (m,) of its key."""
    if settings.centered:
        n = distance.shape[1]
        total = graph.sum("Σ D", distance, 1)
        mean = graph.lookup("M", total, lambda x: (2 * x + n) // (2 * n))
        distance = graph.subtract("D − M", distance, graph.reshape("M of each pair", mean, (distance.shape[0], 1)))
    low, high = distance.node.bounds
    levels = score_levels(np.arange(low, high + 1), settings, qmax)
    return graph.lookup("Z", distance, Table(levels * places[None, :, None], low))


def tied_scores(
    graph: Graph, distance: Tensor, pair: Array, settings: InhibitorScores, qmax: int, places: Array
) -> Tensor:
    """Z, (n, n), of the distances of pairs; every token is at distance 0 from itself."""
    of_pairs = scores(graph, distance, settings, qmax, np.ones(1, np.int64))
    n = len(pair)
    spread = np.zeros((of_pairs.shape[1], n, n), np.int64)
    row, column = np.nonzero(pair >= 0)
    spread[pair[row, column], row, column] = places[column]
    itself = score_levels(np.zeros(1, np.int64), settings, qmax) * np.diag(places)
    flat = graph.affine("Z of all", of_pairs, spread.reshape(-1, n * n), itself.reshape(-1))
    return graph.reshape("Z of each pair", flat, (n, n))


def score_levels(distance: Array, settings: InhibitorScores, qmax: int) -> Array:
    """Z of D − M."""
    score = np.maximum(settings.sign * distance + settings.delta, 0)
    shift = settings.shift
    rounded = (score + (1 << (shift - 1))) >> shift if shift > 0 else score << -shift
    return np.minimum(rounded, qmax)


def inhibit(graph: Graph, v: Tensor, z: Tensor, levels: ValueLevels, packing: Packing) -> Tensor:
    """A's terms, (n, groups of keys, d), of C(v), (m, d), and Z, (n, m), both with their keys' place values."""
    d, n, groups = v.shape[1], z.shape[0], packing.count // packing.group
    of_groups = graph.sum("C(v) of groups", graph.reshape("C(v) by group", v, (groups, packing.group, d)), 1)
    difference = graph.subtract(
        "C(v) − Z",
        graph.reshape("C(v) of each pair", of_groups, (1, groups, d)),
        graph.reshape("Z of groups", graph.affine("Z by group", z, packing.sums), (n, groups, 1)),
    )
    return graph.lookup("shrinkage", difference, packing.table(lambda x: _shrink(x, levels)))


def _shrink(difference: Array, levels: ValueLevels) -> Array:
    """sign(v)·max(|v| − Z, 0) of C(v) − Z."""
    positive = np.maximum(difference, 0)
    if not levels.signed:
        return positive
    return np.where(difference <= levels.qmax, positive, -np.maximum(difference - 2 * levels.qmax, 0))


def _packed_features(graph: Graph, name: str, x: Tensor, packing: Packing) -> Tensor:
    return x if packing.group == 1 else graph.affine(f"{name} by group", x, packing.sums)
