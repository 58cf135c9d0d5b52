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
from .dot_product import Products, ReluScores, SoftmaxScores, dot_product_terms
from .graph import MAX_TABLE_BITS, Array, Graph, Tensor
from .levels import Packing, Projection, ValueLevels, project
from .plan import EncryptedPlan

# Bits of an output and of its noise that Concrete's parameters for 5-bit tables still carry; one more costs 45 %.
OUTPUT_BITS = 10.3


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
        terms = self._attention(graph, x, products)
        if (terms.shape[0], terms.shape[2], *self.bias.shape) != self.head.shape:
            raise ValueError(f"head {self.head.shape} and bias {self.bias.shape} do not fit terms {terms.shape}")
        flat, weight = self._head(graph, terms)
        # Least values are left to the client: what is encrypted begins at 0, and needs the fewest bits.
        least = flat.node.low @ weight.clip(min=0) + flat.node.high @ weight.clip(max=0)
        head = graph.affine("head", flat, weight, -least[0])
        graph.reshape("logits in parts", head, (-1, len(self.bias)))
        return EncryptedPlan(graph, self.bias + least.reshape(-1, len(self.bias)).sum(0))

    def _head(self, graph: Graph, terms: Tensor) -> tuple[Tensor, Array]:
        """The inputs of the head, (1, I), and its weights (I, P·C): of A, or of A's terms where A is too wide."""
        node, head = terms.node, self.head
        weight = _in_parts(head, node.low.sum(1), node.high.sum(1), node.noise.sum(1))
        if weight is not None:
            terms = graph.sum("A", terms, 1)
        else:
            head = np.repeat(head[:, None], terms.shape[1], 1)
            weight = _in_parts(head, node.low, node.high, node.noise)
        if weight is None:  # then it costs what it costs
            weight = head.reshape(-1, len(self.bias))
        return graph.reshape("inputs of the head", terms, (1, terms.node.low.size)), weight

    def _attention(self, graph: Graph, x: Tensor, products: Products) -> Tensor:
        if isinstance(self.scores, InhibitorScores):
            return self._inhibitor(graph, x, self.scores)
        projections = (self.query, self.key, self.value)
        return dot_product_terms(graph, x, projections, self.levels, self.value_levels, self.scores, products)

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


def _in_parts(head: Array, low: Array, high: Array, noise: Array) -> Array | None:
    """Weights (I, P·C) of logits whose inputs are dealt out to P parts, no more than noise requires.

    A sum of many ciphertexts needs many bits and adds up their noise, which would make every bootstrap dearer; two
    sums of half as many do not. None if one input alone is too much. head: (…, C); low, high, noise: (…), of inputs.
    """
    head, low, high, noise = head.reshape(-1, head.shape[-1]), low.reshape(-1), high.reshape(-1), noise.reshape(-1)
    inputs, classes = head.shape
    earlier = np.cumsum(head != 0, axis=0) - (head != 0)  # weights of the same class before each
    most = int((head != 0).sum(0).max(initial=1))
    for parts in range(1, most + 1):
        part = np.minimum(earlier * parts // np.maximum((head != 0).sum(0), 1), parts - 1)
        dealt = np.zeros((inputs, parts, classes), np.int64)
        np.put_along_axis(dealt, part[:, None], head[:, None], 1)
        weight = dealt.reshape(inputs, -1)
        bits = np.ceil(np.log2((high - low) @ np.abs(weight) + 1)) + np.log2((noise @ weight**2).clip(1)) / 2
        if (bits <= OUTPUT_BITS).all():
            return weight
    return None
