"""One head of the integer specification as a graph: its quantized q, k and v encrypted, its sums A the output."""

from __future__ import annotations

import numpy as np

from . import attention
from .attention import InhibitorScores
from .graph import Graph
from .levels import Packing, ValueLevels


def specification_graph(
    bits: int, tokens: int, features: int, scores: InhibitorScores, *, signed: bool, max_table_bits: int = 8
) -> Graph:
    """A, (n, F), of one input (3n, F): rows of q̂ and of k̂, 0 … 2^b − 1, then of v̂, up to 2^(b−1) − 1 in magnitude.

    The sums are those of `attention/integer/reference.py` with no mask. Raises ValueError, naming the node, where a
    table would need more than `max_table_bits`.
    """
    graph = Graph(max_table_bits)
    qmax, levels = 2**bits - 1, ValueLevels(2 ** (bits - 1) - 1, signed)
    rows = np.repeat([[0, qmax], [0, qmax], [-levels.qmax, levels.qmax]], tokens, 0)
    low, high = (np.repeat(rows[:, [side]], features, 1) for side in (0, 1))
    x = graph.input("q, k and v", low, high)
    q, k, v = (
        graph.take(name, x, np.arange(start, start + tokens))
        for name, start in (("q", 0), ("k", tokens), ("v", 2 * tokens))
    )
    distance = attention.distances(graph, q, k, Packing(2 * qmax + 1, -qmax, features, 1))
    ones = np.ones(tokens, np.int64)
    z = attention.scores(graph, distance, scores, levels.qmax, ones)
    if signed:
        v = graph.lookup("C(v)", v, lambda x: attention.fold(x, levels))
        packing = Packing(4 * levels.qmax + 1, -levels.qmax, tokens, 1)
    else:
        packing = Packing(3 * levels.qmax + 1, -2 * levels.qmax, tokens, 1)
    graph.sum("A", attention.inhibit(graph, v, z, levels, packing), 1)
    return graph
