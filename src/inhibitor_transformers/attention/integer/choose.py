"""Chooses the steps of q, k and v: as fine as their ranges allow, and a power of two apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def positive(ranges: Tensor) -> Tensor:
    """Ranges of which any multiple of a step can be taken: 1 where there is nothing to tell apart."""
    return torch.where(ranges > 0, ranges, torch.ones_like(ranges))


@dataclass(frozen=True)
class Split:
    """Into how many adjoining ranges each feature is cut, so that none is wider than `width`.

    counts: (Hkv, D) int64, together F for each head; width: (Hkv,) float64.
    """

    counts: Tensor
    width: Tensor

    def ranges(self, low: Tensor, high: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Where ranges of `width` (Hkv,) begin, (Hkv, F), and which feature those after the first D repeat.

        The ranges of a feature lie about the middle of [low, high].
        """
        heads, dim = low.shape
        first = (low + high) / 2 - self.counts * width[:, None] / 2
        features = torch.arange(dim, device=low.device).expand(heads, -1)
        begins, sources = [], []
        for head in range(heads):
            source = features[head].repeat_interleave(self.counts[head] - 1)
            # 1, 2, … of each feature: the number among all repeats, less that of the feature's first one.
            earlier = (self.counts[head] - 1).cumsum(0) - (self.counts[head] - 1)
            number = torch.arange(source.shape[0], device=low.device) - earlier[source] + 1
            begins.append(torch.cat([first[head], first[head][source] + number * width[head]]))
            sources.append(source)
        return torch.stack(begins), torch.stack(sources)


def split_features(low: Tensor, high: Tensor, features: int) -> Split:
    """The split of D features, (Hkv, D) float64 ranges, into F with the least width. Raises ValueError for F < D."""
    dim = low.shape[1]
    if features < dim:
        raise ValueError(f"features must be at least the {dim} of queries and keys, got {features}")
    ranges = (high - low).clamp_min(0)
    counts = torch.ones_like(ranges, dtype=torch.int64)
    for _ in range(features - dim):  # always the one whose parts are the widest: no other choice has a smaller width
        counts.scatter_add_(1, (ranges / counts).argmax(1, keepdim=True), torch.ones_like(counts[:, :1]))
    return Split(counts, positive((ranges / counts).amax(1)))


@dataclass(frozen=True)
class Steps:
    """feature: (Hkv,) and value: (H,) float64; shift: s, (H,) int64, with γ/√D · feature = value · 2^−s."""

    feature: Tensor
    value: Tensor
    shift: Tensor


def choose_steps(feature: Tensor, value: Tensor, slope: Tensor, *, shifts: tuple[int, int]) -> Steps:
    """The least steps, none below those given, that are a power of two apart.

    Args:
        feature: (Hkv,) float64, the finest step of q and k.
        value: (H,) float64, the finest step of v.
        slope: (H,) float64, |γ|/√D; where it is 0, scores count steps of v.
        shifts: least and greatest s. Where γ is so small that s would be greater, distances hardly count, and get
            coarser steps; where it is so large that s would be less, one step is already more than any v.
    """
    groups = slope.shape[0] // feature.shape[0]
    flat = slope == 0
    slope = torch.where(flat, 1.0, slope)
    needed = torch.where(flat, 0.0, value * 2.0 ** -shifts[1] / slope)
    feature = torch.maximum(feature, needed.view(-1, groups).amax(1))
    exact = (slope * feature.repeat_interleave(groups) / value).log2()
    # Query heads that share keys share the step of these, so that only the steps of v can be made larger.
    power = exact.round() if groups == 1 else (exact + 1e-9).floor()
    power = power.clamp(-shifts[1], -shifts[0])
    if groups == 1:
        feature = torch.where(flat, feature, feature * 2.0 ** (power - exact).clamp_min(0))
    stretched = slope * feature.repeat_interleave(groups) * 2.0**-power
    keep = flat | (exact > -shifts[0])
    return Steps(
        feature=feature,
        value=torch.where(keep, value, torch.maximum(value, stretched)),
        shift=torch.where(flat, 0, -power).to(torch.int64),
    )
