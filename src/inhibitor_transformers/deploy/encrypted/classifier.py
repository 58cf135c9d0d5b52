"""A trained classifier of one attention layer in integers: what training hands over, and what a plan is made from.

Of x, (n, I) levels 0 … input_qmax that the client quantized, W ternary, T a table for each output feature:

    q = T_q[x·W_q],  k = T_k[x·W_k],  v = T_v[x·W_v]         (n, d); tied: k = q
    A = attention(q, k, v)                                   (n, d), `attention.py` or `dot_product.py`
    logits_c = b_c + Σ_i Σ_k A_ik · head_ikc

Bias, scale and rounding of a projection are in its tables, so that each output costs one lookup.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import attention
from .attention import InhibitorScores
from .dot_product import Products, ReluScores, SoftmaxScores, dot_product_sums
from .graph import MAX_TABLE_BITS, Array, Graph, Node, Tensor
from .levels import Packing, Projection, ValueLevels, project
from .plan import EncryptedPlan

# Bits of an output and of its noise that Concrete's parameters for 5-bit tables still carry; one more costs 45 %.
OUTPUT_BITS = 10.5


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

    def plan(self, *, max_table_bits: int = MAX_TABLE_BITS, products: Products = "cheapest") -> EncryptedPlan:
        """The plan that ends in these logits.

        products: how dot products are looked up. Raises ValueError, naming the node, for what no table can read.
        """
        graph = Graph(max_table_bits)
        shape = self.tokens, self.query.weight.shape[-2]
        x = graph.input("x", np.zeros(shape, np.int64), np.full(shape, self.input_qmax))
        sums = self._attention(graph, x, products)
        if sums.shape != self.head.shape[:2] or self.bias.shape != self.head.shape[2:]:
            raise ValueError(f"head {self.head.shape} and bias {self.bias.shape} do not fit sums {sums.shape}")
        flat = graph.reshape("A of all tokens", sums, (1, sums.node.low.size))
        weight = _in_parts(self.head.reshape(-1, len(self.bias)), flat.node)
        # Least values are left to the client: what is encrypted begins at 0, and needs the fewest bits.
        least = flat.node.low @ weight.clip(min=0) + flat.node.high @ weight.clip(max=0)
        head = graph.affine("head", flat, weight, -least[0])
        graph.reshape("logits in parts", head, (-1, len(self.bias)))
        return EncryptedPlan(graph, self.bias + least.reshape(-1, len(self.bias)).sum(0))

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


def _in_parts(head: Array, sums: Node) -> Array:
    """Weights (I, P·C) of logits whose inputs are dealt out to P parts, no more than noise requires.

    A sum of many ciphertexts needs many bits and adds up their noise, which would make every bootstrap dearer; two
    sums of half as many do not.
    """
    inputs, classes = head.shape
    earlier = np.cumsum(head != 0, axis=0) - (head != 0)  # weights of the same class before each
    most = int((head != 0).sum(0).max(initial=1))
    for parts in range(1, most + 1):
        part = np.minimum(earlier * parts // np.maximum((head != 0).sum(0), 1), parts - 1)
        dealt = np.zeros((inputs, parts, classes), np.int64)
        np.put_along_axis(dealt, part[:, None], head[:, None], 1)
        weight = dealt.reshape(inputs, -1)
        width = (sums.high - sums.low).reshape(-1) @ np.abs(weight)
        noise = sums.noise.reshape(-1) @ weight**2
        if (np.ceil(np.log2(width + 1)) + np.log2(noise.clip(1)) / 2 <= OUTPUT_BITS).all():
            break
    return weight
