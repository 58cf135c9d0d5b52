"""Causal attention as a decoder calls it: prefill, a sliding window, and single queries against a cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import agreement
import torch
import torch.nn.functional as F
from inputs import Inputs, gaussian
from timing import Budget, Sides, Times, interleave
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention


@dataclass(frozen=True)
class Case:
    """`queries` are the last of `keys` positions; `window`: keys that each sees, by a mask of pairs."""

    title: str
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    dim: int
    window: int | None = None

    @property
    def shape(self) -> str:
        heads = str(self.heads) if self.heads == self.kv_heads else f"{self.heads}:{self.kv_heads}"
        return f"{self.batch}×{heads}×{self.queries}×{self.keys}×{self.dim}"

    def inputs(self) -> Inputs:
        """As a model lays them out; in decoding, keys and values as a cache does."""
        query = gaussian(self.batch, self.heads, self.queries, self.dim)
        _, key, value, _ = gaussian(self.batch, self.kv_heads, self.keys, self.dim)
        if self.queries == 1:
            key, value = key.contiguous(), value.contiguous()
        return query._replace(key=key, value=value)

    def visible(self, queries: int) -> Tensor:
        """(1, 1, queries, keys) bool: the keys that each of the last queries sees."""
        distance = torch.arange(self.keys - queries, self.keys)[:, None] - torch.arange(self.keys)
        return ((distance >= 0) & (distance < (self.window or self.keys)))[None, None]


CASES = (
    Case("causal prefill", 1, 8, 8, 512, 512, 64),
    Case("causal prefill", 1, 8, 8, 2048, 2048, 64),
    Case("causal prefill", 1, 8, 8, 2048, 2048, 32),
    Case("causal prefill", 1, 1, 1, 8192, 8192, 64),
    Case("causal prefill", 1, 1, 1, 32768, 32768, 64),
    Case("window of 256", 1, 8, 8, 2048, 2048, 64, window=256),
    *(Case("decoding", 1, 8, 8, 1, keys, 64) for keys in (64, 200, 512, 2048)),
    Case("decoding", 1, 4, 4, 1, 1024, 32),
    *(Case("decoding", 8, 8, 8, 1, keys, 64) for keys in (64, 512, 2048)),
    Case("decoding", 1, 4, 2, 1, 512, 64),
    *(Case("decoding", 8, 8, 2, 1, keys, 32) for keys in (200, 2048)),
)


def softmax(inputs: Inputs, mask: Tensor | None) -> Tensor:
    """torch's attention, causal or masked; torch counts queries from the first key on, so one query is not causal."""
    q, k, v, _ = inputs
    causal, grouped = mask is None and q.shape[2] > 1, q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


def inhibitor(inputs: Inputs, mask: Tensor | None, engine: str = "cpu") -> Tensor:
    q, k, v, scalars = inputs
    return inhibitor_attention(q, k, v, **scalars, attn_mask=mask, is_causal=mask is None, engine=engine)


def require_right(case: Case, inputs: Inputs, sides: Sides) -> None:
    """Raise SystemExit unless each side computes the operation of its name, by the last queries of the first row."""
    queries = min(agreement.QUERIES, case.queries)
    last = slice(-queries, None)
    q, k, v = (t[:1].double() for t in inputs.qkv)
    few = Inputs(q[:, :, last], k, v, {n: t.double() for n, t in inputs.scalars.items()})
    mask = case.visible(queries)
    expected = {"sdpa": softmax(few, mask), "ours": inhibitor(few, mask, "reference")}
    for name, call in sides.items():
        found = call()[:1, :, last]
        agreement.require_close(f"{name}, {case.title} {case.shape}", found, expected[name], agreement.FLOAT32)


@torch.no_grad()
def measure(case: Case, seconds: float, rounds: int) -> Times:
    """Sides `sdpa` and `ours`, each compared with float64 first."""
    inputs, mask = case.inputs(), case.visible(case.queries) if case.window else None
    sides: Sides = {"sdpa": partial(softmax, inputs, mask), "ours": partial(inhibitor, inputs, mask)}
    require_right(case, inputs, sides)
    return interleave(sides, Budget(rounds, seconds, most=3000))
