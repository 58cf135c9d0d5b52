"""Calibration of a converted model, whatever its architecture: from recorded calls of its teacher's attention.

As `calibration` does for encoders, with what other models add: a row of a causal model sees as many keys as it has
predecessors, so that one batch holds all lengths and least squares weighs each row by its own (n₀/n)^ρ; scores may have
an additive term; and features of queries may be scaled, where the model scales them for its softmax.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...attention import inhibition_scores, inhibitor_attention
from ...common.progress import progress
from ...models.conversion.attention import ConvertedAttention, ConvertedScalars
from ...models.conversion.l1_softmax import l1_softmax_attention
from ...models.conversion.masks import CallMasks
from ...models.conversion.recording import AttentionCall, replay_inputs
from ...models.value_center import center_values
from .calibration import Calibration, Grid

BIAS_GRID = (0.5, 1.0, 2.0)  # bias_scale in units of the slope of scores over products
QUERY_GRID = (0.5, 1.0, 2.0)  # query_scale in units of the deviation of keys over that of queries
KEY_NORM_GRID = (0.0, 0.5, 0.75, 1.0)
# Where the least score of a row is subtracted δ is a window below zero in which keys pass whole. Sharp heads need a
# large γ, with which δ grows: it is multiplied by γ/2, of the grid's units, beyond 2.
GRIDS = {
    "mean": Grid((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), (-1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)),
    "none": Grid(),
    "min": Grid((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), (-8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5)),
}


@dataclass
class _Sample:
    """One call: what the student's attention function is given, and what the teacher's returned.

    query, target: (B, H, N, D); key, value: (B, Hkv, N, D); values and target less the values' mean where they are
    centered. rows: (B, 1, Nq) float, 1 for queries that count. counts: (B, H or 1, Nq) keys that each
    sees. energy: (H,), Σ of the whole squared output. scaling: of the teacher's products.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    target: Tensor
    masks: CallMasks
    rows: Tensor
    counts: Tensor
    energy: Tensor
    scaling: float


@torch.no_grad()
def calibrate_calls(
    student: PreTrainedModel, calls: Sequence[Sequence[AttentionCall]], **grid: Sequence[float]
) -> Calibration:
    """Set the scalars of every head of a converted student in place; a head that the grid cannot better keeps its own.

    Args:
        student: made by `convert`; its projections are used as they are.
        calls: of the teacher, one list per batch, each in the order of a forward pass (`record_attention`).
        grid: fields of `Grid` other than those of `GRIDS`; a single value fixes it.

    Returns the relative errors before and after, of each application in the order of the calls; an application of
    shared scalars is calibrated together with the others and stands once. Raises ValueError for values that are not
    finite.
    """
    modules = dict(student.named_modules())
    groups: dict[int, tuple[ConvertedAttention, ConvertedScalars, list[_Sample]]] = {}
    for batch in calls:
        for call, given in zip(batch, replay_inputs(student, batch), strict=True):
            attention: ConvertedAttention = modules[call.site.name].inhibitor
            scalars = attention.applications[call.application % len(attention.applications)]
            group = groups.setdefault(id(scalars), (attention, scalars, []))  # type: ignore[arg-type]
            group[2].append(_sample(attention, call, *given))
    before, after = [], []
    with progress("calibrating", len(groups)) as advance:
        for attention, scalars, samples in groups.values():
            initial = _error(attention, scalars, samples)
            before.append(initial.tolist())
            after.append(
                _fit(attention, scalars, samples, initial, replace(GRIDS[attention.options.center], **grid)).tolist()
            )
            advance(1)
    return Calibration(before, after)


def _sample(attention: ConvertedAttention, call: AttentionCall, query: Tensor, key: Tensor, value: Tensor) -> _Sample:
    target = call.output.transpose(1, 2).float()
    for name, tensor in (("query", query), ("key", key), ("value", value), ("attention output", target)):
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{call.site.name}: its {name} is not finite: weights are too large")
    masks = call.masks
    valid = masks.valid(query.shape[2], key.shape[2])
    counts = valid.sum(-1).clamp(min=1).float()
    rows = (valid.any(-1)).float()
    if masks.key_padding_mask is not None and query.shape[2] == key.shape[2]:  # padding asks nothing either
        rows = rows * masks.key_padding_mask[:, None].float()
    energy = _inner(target, target, rows).clamp_min(torch.finfo(torch.float32).tiny)
    centered = masks.attn_mask is None and not attention.site.is_causal
    center = attention.options.value_center if centered else "none"
    shrunk = center_values(value, masks.key_padding_mask, center)  # type: ignore[arg-type]
    if shrunk.mean is not None:
        target = target - _per_query_head(shrunk.mean.float(), target.shape[1], dim=1)
    return _Sample(query, key, shrunk.values, target, masks, rows, counts, energy, call.scaling)


def _fit(
    attention: ConvertedAttention,
    scalars: ConvertedScalars,
    samples: list[_Sample],
    initial: Tensor,
    grid: Grid,
) -> Tensor:
    """Set the scalars of one application to the best of the grid, per head; returns the errors (H,)."""
    best = initial
    found = {name: p.clone() for name, p in scalars.named_parameters()}
    for features, changed in _features(scalars, samples):
        error, tried = _best_of_grid(attention, scalars, changed, features, grid)
        better = error < best
        best = torch.where(better, error, best)
        for name, value in (tried | features).items():
            found[name] = torch.where(better.view(-1, *[1] * (value.dim() - 1)), value, found[name])
    for name, value in found.items():
        getattr(scalars, name).copy_(value)
    return best


def _best_of_grid(
    attention: ConvertedAttention,
    scalars: ConvertedScalars,
    samples: list[_Sample],
    features: dict[str, Tensor],
    grid: Grid,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The least error of each head, (H,), and the scalars that have it, (H,) each, for given other ones."""
    given = {name: features[name] for name in ("key_norm", "unit") if name in features}
    best = torch.full_like(scalars.eta, torch.inf)
    found: dict[str, Tensor] = {}
    slope = _mean([_slope(s) for s in samples]) if "bias_scale" in scalars.extra else None
    for gamma, delta in _scales_and_shifts(attention, samples, grid):
        for bias_scale in [None] if slope is None else [factor * gamma * slope for factor in BIAS_GRID]:
            tried = given | {"gamma": gamma, "delta": delta}
            tried |= {} if bias_scale is None else {"bias_scale": bias_scale}
            eta, exponent, error = _least_squares(attention, samples, tried, grid)
            tried |= {"eta": eta} if "unit" in given else {"eta": eta, "length_exponent": exponent}
            better = error < best
            best = torch.where(better, error, best)
            found = {name: torch.where(better, value, found.get(name, value)) for name, value in tried.items()}
    return best, found


def _scales_and_shifts(
    attention: ConvertedAttention, samples: list[_Sample], grid: Grid
) -> Iterator[tuple[Tensor, Tensor]]:
    """γ and δ to try, (H,) each, in units of the calibration's samples."""
    if attention.options.form == "l1_softmax":  # so that −γ S stands for the teacher's scaled products
        unit = samples[0].scaling / _mean([_slope(s) for s in samples]).clamp_min(1e-6)
        yield from ((g * unit, torch.zeros_like(unit)) for g in grid.gamma)
        return
    unit_s = _mean([_score_deviation(s) for s in samples])
    unit_v = _value_size(samples, len(unit_s))
    for g, d in itertools.product(grid.gamma, grid.delta):
        yield g * unit_v / unit_s, d * max(g / 2, 1.0) * unit_v


Features = tuple[dict[str, Tensor], list[_Sample]]


def _features(scalars: ConvertedScalars, samples: list[_Sample]) -> Iterator[Features]:
    """What to try of the parameters that are no scale and no shift, and the samples with queries so scaled.

    The unit of normalized outputs is the mean |v|.
    """
    fixed = {"unit": _value_size(samples, len(scalars.eta))} if "unit" in scalars.initial else {}
    norms = KEY_NORM_GRID if "key_norm" in scalars.initial else (None,)
    for (parameters, changed), norm in itertools.product(_with_query_scales(scalars, samples), norms):
        of_norm = {} if norm is None else {"key_norm": torch.full_like(scalars.key_norm, norm)}
        yield parameters | fixed | of_norm, changed


def _with_query_scales(scalars: ConvertedScalars, samples: list[_Sample]) -> Iterator[Features]:
    if "query_scale" not in scalars.extra:
        yield {}, samples
        return
    deviations = [(_deviation(s.query), _deviation(s.key)) for s in samples]
    ratio = _mean([_per_query_head(k, len(q)) / q.clamp_min(1e-12) for q, k in deviations])
    for factor in QUERY_GRID:
        scale = (factor * ratio)[:, None].expand_as(scalars.query_scale)
        yield {"query_scale": scale}, [replace(s, query=s.query * scale[:, None].to(s.query.dtype)) for s in samples]


def _deviation(x: Tensor) -> Tensor:
    """Of the features of (B, H, N, D) about their mean over tokens, per head (H,)."""
    x = x.float()
    return (x - x.mean((0, 2), keepdim=True)).square().mean(dim=(0, 2, 3)).sqrt()


def _slope(sample: _Sample) -> Tensor:
    """Minus the regression of scores at γ = 1 on the products of queries and keys, per head (H,).

    The teacher adds its bias to products, of which scores are about minus this multiple.
    """
    query, key = sample.query.float(), _per_query_head(sample.key.float(), sample.query.shape[1], dim=1)
    products = query @ key.transpose(-1, -2)
    distances = torch.cdist(query, key, p=1) / query.shape[-1] ** 0.5
    products, distances = (x - x.mean(-1, keepdim=True) for x in (products, distances))
    spread = products.square().sum(dim=(0, 2, 3)).clamp_min(1e-12)
    return (-(products * distances).sum(dim=(0, 2, 3)) / spread).clamp_min(0.0)


def _least_squares(
    attention: ConvertedAttention, samples: list[_Sample], given: dict[str, Tensor], grid: Grid
) -> tuple[Tensor, Tensor, Tensor]:
    """Best η and ρ per head for all others that are given, and the relative error they leave; each (H,)."""
    gamma = given["gamma"]
    n0 = attention.options.length_reference
    uu, ut, nothing = [], [], []
    for s in samples:
        u = _attend(attention, s, **given)
        uu.append((u * u).sum(-1) * s.rows / s.energy[:, None])
        ut.append((u * s.target).sum(-1) * s.rows / s.energy[:, None])
        nothing.append(_inner(s.target, s.target, s.rows) / s.energy)
    without = _mean(nothing)
    best = torch.full_like(gamma, torch.inf)
    eta, exponent = torch.ones_like(gamma), torch.zeros_like(gamma)
    if attention.options.form == "l1_softmax":  # whose rows sum to one
        return eta, exponent, without + _mean([(x - 2 * y).sum(dim=(0, 2)) for x, y in zip(uu, ut, strict=True)])
    for rho in (0.0,) if "unit" in given else grid.length_exponent:
        factors = [(n0 / s.counts) ** rho for s in samples]
        a = _mean([(f * x).sum(dim=(0, 2)) for f, x in zip(factors, ut, strict=True)])
        b = _mean([(f * f * x).sum(dim=(0, 2)) for f, x in zip(factors, uu, strict=True)])
        error = torch.where(b > 0, without - a.square() / b, without)
        better = error < best
        best = torch.where(better, error, best)
        eta = torch.where(better, torch.where(b > 0, a / b, torch.ones_like(b)), eta)
        exponent = torch.where(better, torch.full_like(exponent, rho), exponent)
    return eta, exponent, best


def _attend(attention: ConvertedAttention, s: _Sample, *, bias_scale: Tensor | None = None, **scalars: Any) -> Tensor:
    """The output at η = 1, ρ = 0: (B, H, Nq, Dv) float32."""
    options: dict[str, Any] = {}
    if s.masks.bias is not None and bias_scale is not None:
        options["score_bias"] = -bias_scale[:, None, None] * s.masks.bias
    options |= {"key_padding_mask": s.masks.key_padding_mask, "attn_mask": s.masks.attn_mask}
    options["is_causal"] = s.masks.is_causal
    if attention.options.form == "l1_softmax":
        del scalars["delta"]
        return l1_softmax_attention(s.query, s.key, s.value, **scalars, **options)[0].float()
    options |= {"signed": attention.options.signed, "center": attention.options.center}
    return inhibitor_attention(s.query, s.key, s.value, **scalars, **options).float()


def _error(attention: ConvertedAttention, scalars: ConvertedScalars, samples: list[_Sample]) -> Tensor:
    """Relative error per head at the scalars as they are, (H,)."""
    errors = []
    for s in samples:
        output, _ = scalars(
            s.query,
            s.key,
            s.value,
            bias=s.masks.bias,
            key_padding_mask=s.masks.key_padding_mask,
            attn_mask=s.masks.attn_mask,
            is_causal=s.masks.is_causal,
            signed=attention.options.signed,
            center=attention.options.center,
        )
        difference = output.float() - s.target
        errors.append(_inner(difference, difference, s.rows) / s.energy)
    return _mean(errors)


def _score_deviation(s: _Sample) -> Tensor:
    """mean |S − row mean of S| per head at γ = 1, over pairs that count: twice the mean of its positive half."""
    z = inhibition_scores(
        s.query,
        s.key,
        gamma=1.0,
        delta=0.0,
        key_padding_mask=s.masks.key_padding_mask,
        attn_mask=s.masks.attn_mask,
        is_causal=s.masks.is_causal,
    )
    counted = z.isfinite()
    return 2 * z.masked_fill(~counted, 0.0).float().sum(dim=(0, 2, 3)) / counted.sum(dim=(0, 2, 3)).clamp(min=1)


def _value_size(samples: list[_Sample], heads: int) -> Tensor:
    """mean |v| of the values of each query head, (H,)."""
    return _mean([_per_query_head(s.value.abs().float().mean(dim=(0, 2, 3)), heads) for s in samples])


def _per_query_head(x: Tensor, heads: int, dim: int = 0) -> Tensor:
    """What keys and values have for each of their heads, for each query head."""
    return x.repeat_interleave(heads // x.shape[dim], dim)


def _inner(a: Tensor, b: Tensor, rows: Tensor) -> Tensor:
    return ((a * b).sum(-1) * rows).sum(dim=(0, 2))


def _mean(per_sample: list[Tensor]) -> Tensor:
    return torch.stack(per_sample).mean(0)
