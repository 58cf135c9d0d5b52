"""A trained classifier of one attention layer in integers: what training hands over, and what a plan is made from.

Of x, (n, I) levels 0 … input_qmax that the client quantized, W ternary, T a table for each output feature:

    q = T_q[x·W_q],  k = T_k[x·W_k],  v = T_v[x·W_v]         (n, d); tied: k = q
    A = attention(q, k, v)                                   (n, d), `attention.py` or `dot_product.py`
    logits_c = b_c + Σ_i Σ_k A_ik · head_ikc

Bias, scale and rounding of a projection are in its tables, so that each output costs one lookup.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import attention
from .attention import InhibitorScores
from .dot_product import Products, ReluScores, SoftmaxScores, dot_product_sums
from .graph import MAX_TABLE_BITS, Array, Graph, Tensor
from .levels import Packing, Projection, ValueLevels, project


@dataclass(frozen=True, eq=False)
class IntegerClassifier:
    """The integers of one attention layer between a client's levels and logits.

    tokens, input_qmax: n, and the greatest input level. query, key, value: projections; key None means tied to query.
    levels: L of queries and keys, 0 … L − 1 for the inhibitor, −⌊(L − 1)/2⌋ … ⌊L/2⌋ for dot products. value_levels: of
    values. scores: of inhibitor, softmax or ReLU attention. head: (n, d, C) int64. bias: (C,) int64.
    """

    tokens: int
    input_qmax: int
    query: Projection
    key: Projection | None
    value: Projection
    levels: int
    value_levels: ValueLevels
    scores: InhibitorScores | SoftmaxScores | ReluScores
    head: Array
    bias: Array

    def graph(self, *, max_table_bits: int = MAX_TABLE_BITS, products: Products = "cheapest") -> Graph:
        """The graph whose last node is the logits, (C,).

        products: how dot products are looked up. Raises ValueError, naming the node, for what no table can read.
        """
        graph = Graph(max_table_bits)
        x = graph.input("x", (self.tokens, self.query.weight.shape[-2]), 0, self.input_qmax)
        sums = self._attention(graph, x, products)
        n, d, classes = self.head.shape
        if sums.shape != (n, d) or self.bias.shape != (classes,):
            raise ValueError(f"head {self.head.shape}, bias {self.bias.shape}: sums are {sums.shape}")
        flat = graph.reshape("A of all tokens", sums, (1, n * d))
        logits = graph.affine("head", flat, self.head.reshape(n * d, classes), self.bias)
        graph.reshape("logits", logits, (classes,))
        return graph

    def _attention(self, graph: Graph, x: Tensor, products: Products) -> Tensor:
        if isinstance(self.scores, InhibitorScores):
            return self._inhibitor(graph, x, self.scores)
        projections = (self.query, self.key, self.value)
        return dot_product_sums(graph, x, projections, self.levels, self.value_levels, self.scores, products)

    def _inhibitor(self, graph: Graph, x: Tensor, scores: InhibitorScores) -> Tensor:
        bits, qmax = graph.max_table_bits, self.value_levels.qmax
        features = Packing.widest(1 - self.levels, self.levels - 1, self.query.weight.shape[-1], bits)
        keys = attention.key_packing(self.value_levels, self.tokens, bits)
        q = project(graph, "q", x, self.query, features.places)
        if self.key is None:
            distance, pair = attention.tied_distances(graph, q, features)
            z = attention.tied_scores(graph, distance, pair, scores, qmax, keys.places)
        else:
            k = project(graph, "k", x, self.key, features.places)
            distance = attention.distances(graph, q, k, features)
            z = attention.scores(graph, distance, scores, qmax, keys.places)
        folded = Projection(self.value.weight, attention.fold(self.value.tables, self.value_levels), self.value.first)
        v = project(graph, "v", x, folded, keys.places[:, None])
        return attention.inhibit(graph, v, z, self.value_levels, keys)
