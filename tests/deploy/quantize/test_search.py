"""The ranges of each head with the least error, and features that are split where it pays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import InhibitorScalars, inhibition_scores, inhibitor_attention
from inhibitor_transformers.attention.integer import QuantParams, integer_attention
from inhibitor_transformers.deploy.quantize.attention import AttentionInputs

OPTIONS = {"signed": True, "center": "mean"}


def random_layer(heads: int = 2, dim: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(4, heads, 50, dim) for _ in range(3))


def seen(q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
    made = AttentionInputs()
    made.add(q, k, v, torch.ones(q.shape[0], q.shape[2], dtype=torch.bool))
    return made


@torch.no_grad()
def error(qparams: QuantParams, layer: tuple[Tensor, Tensor, Tensor], scalars: InhibitorScalars, **options) -> Tensor:
    """Squared, of each head's output."""
    options = OPTIONS | options
    exact = inhibitor_attention(*layer, **scalars.as_arguments(), **options)
    return (integer_attention(*layer, qparams, **options) - exact).square().sum((0, 2, 3))


def test_nothing_seen():
    with pytest.raises(ValueError, match="no queries were seen"):
        AttentionInputs().best_qparams(InhibitorScalars(2), 8, {})


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("center", ["mean", "none"])
def test_better_than_the_whole_ranges(bits, center):
    """One head has an outlier among its values, another one among its queries."""
    q, k, v = layer = random_layer()
    v[0, 0, 3, 2], q[1, 1, 4, 5] = 40.0, 60.0
    scalars = InhibitorScalars(2, gamma=0.5)
    whole = error(QuantParams.from_tensors(*layer, **scalars.as_arguments(), bits=bits), layer, scalars, center=center)
    made = seen(q, k, v).best_qparams(scalars, bits, OPTIONS | {"center": center})
    best = error(made, layer, scalars, center=center)
    assert (best <= whole).all()
    if center == "mean" or bits == 4:  # otherwise nothing is left of the outliers that are clipped
        assert best.sum() < whole.sum()


def test_a_wide_feature_does_not_set_the_step():
    """Four times as wide as the others: at most a tenth more error than with a step for each feature."""
    q, k, _ = layer = random_layer(dim=32)
    scalars = InhibitorScalars(2, gamma=0.5)
    for t in (q, k):
        t[..., 7] *= 4
    made = seen(*layer).best_qparams(scalars, 8, OPTIONS)
    assert seen(*layer).best_qparams(scalars, 8, OPTIONS, split=False).offset.shape[1] == 32
    assert made.offset.shape[1] > 32
    assert ((made.source == 7).sum(1) >= 2).all()
    assert error(made, layer, scalars).sum() < 1.1 * with_a_step_per_feature(layer, scalars)


@torch.no_grad()
def with_a_step_per_feature(layer: tuple[Tensor, Tensor, Tensor], scalars: InhibitorScalars) -> float:
    """The squared error of rounding each feature to 255 steps of its own, v to 127 on either side, scores to these."""
    q, k, v = layer
    both = torch.cat([q, k], 2)
    low, high = both.amin((0, 2), keepdim=True), both.amax((0, 2), keepdim=True)
    step, value_step = (high - low) / 255, v.abs().amax((0, 2, 3), keepdim=True) / 127
    q, k = (((t - low) / step).round() * step + low for t in (q, k))
    scores = inhibition_scores(q, k, gamma=scalars.gamma, delta=scalars.delta)
    kept = (v / value_step).round().abs().unsqueeze(2) - (scores / value_step).round().unsqueeze(-1)
    ours = (v.sign().unsqueeze(2) * kept.clamp_min(0)).sum(3) * value_step
    exact = inhibitor_attention(*layer, **scalars.as_arguments(), **OPTIONS)
    return float((ours - exact).square().sum())


def test_features_alike_are_not_split():
    layer = random_layer()
    made = seen(*layer).best_qparams(InhibitorScalars(2, gamma=0.5), 8, OPTIONS)
    assert made.source.numel() == 0


@pytest.mark.parametrize("gamma", [0.0, 1e-12, 1e12, -0.5])
def test_scalars_of_any_size(gamma):
    layer = random_layer()
    scalars = InhibitorScalars(2, gamma=gamma)
    made = seen(*layer).best_qparams(scalars, 8, OPTIONS)
    exact = inhibitor_attention(*layer, **scalars.as_arguments())
    assert error(made, layer, scalars).sum() <= 1e-2 * exact.square().sum()
