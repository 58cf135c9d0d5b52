"""Private search: an encrypted query against keys in clear, by Manhattan distance, without a bootstrap.

In thermometer code, t_fl = 1 if q_f > l, a distance from a level that is known is linear:

    |q_f − k_f| = Σ_l |t_fl − [k_f > l]| = k_f + Σ_l t_fl·(1 − 2·[k_f > l])

A dot product with clear keys is linear in q itself, and cheaper still.
"""

from __future__ import annotations

import numpy as np

from .graph import Array, Graph


def thermometer(levels: Array, qmax: int) -> Array:
    """(…, F) levels 0 … qmax to (…, F · qmax) bits, those of a feature side by side. Raises ValueError for others."""
    levels = np.asarray(levels)
    if levels.dtype.kind not in "iu" or (levels < 0).any() or (levels > qmax).any():
        raise ValueError(f"levels must be integers in [0, {qmax}]")
    bits = levels[..., None] > np.arange(qmax)
    return bits.reshape(*levels.shape[:-1], -1).astype(np.int64)


def search_graph(keys: Array, qmax: int) -> Graph:
    """Distances (N,) of a query's thermometer code, (F · qmax,), from keys (N, F) of levels 0 … qmax.

    Raises ValueError for other keys.
    """
    if np.ndim(keys) != 2 or np.size(keys) == 0:
        raise ValueError(f"keys must be (N, F) levels, got {np.shape(keys)}")
    bits = thermometer(keys, qmax)
    graph = Graph()
    query = graph.input("query", np.zeros((1, bits.shape[1]), np.int64), np.ones((1, bits.shape[1]), np.int64))
    distance = graph.affine("distances", query, (1 - 2 * bits).T, np.asarray(keys, np.int64).sum(1))
    graph.reshape("distance of each key", distance, (len(bits),))
    return graph
