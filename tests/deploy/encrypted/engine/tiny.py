"""A plan of four bootstraps, whose keys and runs take about a second."""

from __future__ import annotations

import numpy as np

from inhibitor_transformers.deploy.encrypted.graph import Array, Graph
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan

LABELS = ("cat", "dog")


def tiny_plan(seed: int = 0) -> EncryptedPlan:
    """(2, 2) levels 0 … 2 to two logits in two parts; another seed has other weights."""
    graph = Graph()
    x = graph.input("x", np.zeros((2, 2), np.int64), np.full((2, 2), 2))
    sums = graph.affine("sums", x, np.array([[1, -1], [1, 1]]))
    shrunk = graph.lookup("shrunk", sums, lambda s: np.maximum(s - seed, 0))
    graph.affine("parts", shrunk, np.array([[1, -1], [-1, 2]]))
    return EncryptedPlan(graph, np.array([3, -4 - seed]))


def examples(count: int = 1, seed: int = 0) -> Array:
    """(count, 2, 2)."""
    return np.random.default_rng(seed).integers(0, 3, (count, 2, 2))
