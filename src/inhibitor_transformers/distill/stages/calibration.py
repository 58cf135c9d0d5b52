"""Calibration: initial values of γ, δ, ρ, η per head from a teacher's attention outputs, without any training.

A softmax model's q, k, v under γ = 1, δ = ½, η = 1 give attention outputs that are wrong by factors of hundreds. For
each head this scans γ and δ over a small grid of natural units, and for each pair takes ρ from a list and η by least
squares, so that the student's attention outputs come nearest to the teacher's on sequences of several lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...attention import inhibition_scores, inhibitor_attention
from ...common.progress import Advance, progress, track
from ...models import InhibiDistilBertPreTrainedModel, LayerMap
from ...models.architectures import AttentionLayer, attention_layers
from ...models.value_center import center_values
from ..teacher.teacher import Teacher

# γ in units of mean|v| / mean|S − mean S| (S: score at γ = 1) and δ in units of mean|v|.
GAMMA_GRID = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.5)
DELTA_GRID = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LENGTH_EXPONENT_GRID = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0)


@dataclass(frozen=True)
class Grid:
    """The values that calibration tries, in the units above."""

    gamma: Sequence[float] = GAMMA_GRID
    delta: Sequence[float] = DELTA_GRID
    length_exponent: Sequence[float] = LENGTH_EXPONENT_GRID


@dataclass(frozen=True)
class Calibration:
    """relative_error[i][h]: squared error of head h of student layer i over the teacher's squared attention output,
    mean over the sequence lengths, after calibration; `before` the same at the initial scalars."""

    before: list[list[float]]
    relative_error: list[list[float]]


@dataclass
class _Sample:
    """q, k, v and the teacher's attention output of one layer for one sequence length: (B, H, N, D) each.

    Where values are centered, so is the target, about the same mean. energy: (H,), the whole output squared, summed.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    target: Tensor
    energy: Tensor

    @cached_property
    def zero_error(self) -> Tensor:
        """Relative error of outputs that are zero, per head (H,): 1 where values are not centered."""
        return _inner(self.target, self.target) / self.energy

    @property
    def length(self) -> int:
        return self.query.shape[2]


@torch.no_grad()
def calibrate(
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    layer_map: LayerMap,
    batches: Sequence[dict[str, Tensor]],
    grid: Grid | None = None,
) -> Calibration:
    """Set the scalars of every head of `student` in place; a head that the grid cannot better keeps its own.

    Args:
        student: built from the teacher; its q, k, v weights are used as they are.
        teacher: gives layer inputs and attention outputs.
        layer_map: which teacher layer each student layer stands for.
        batches: `input_ids` and `attention_mask`, (B, N) without padding, one batch per sequence length.
        grid: what to try; a single value fixes it.

    Returns the relative errors before and after. Raises ValueError for padded batches, and where a teacher's hidden
    states or attention outputs, or a student's, are not finite, so that nothing can be fitted to them.
    """
    for batch in batches:
        if not batch["attention_mask"].all():
            raise ValueError("calibration takes batches without padding, one per sequence length")
    teacher_outputs = [
        teacher(batch, attention_outputs=True, hidden=True) for batch in track(batches, "asking the teacher")
    ]
    before, after, grid = [], [], grid or Grid()
    with progress("calibrating", len(layer_map) * len(grid.gamma) * len(grid.delta)) as advance:
        attentions = attention_layers(student)
        for i, (attention, source) in enumerate(zip(attentions, layer_map.teacher_layers, strict=True)):
            samples = [_project(attention, s.hidden[source], s.attention_outputs[source]) for s in teacher_outputs]
            _require_finite(samples, f"teacher layer {source}")
            initial = _current_error(attention, samples)
            before.append(initial.tolist())
            after.append(_calibrate_layer(attention, samples, initial, grid, advance))
            if not all(map(math.isfinite, after[-1])):
                errors = ", ".join(f"{error:.3g}" for error in after[-1])
                raise ValueError(
                    f"calibration of layer {i} ends in errors that are not finite ({errors}): its scalars "
                    "or the teacher's weights are too large"
                )
    return Calibration(before, after)


def _require_finite(samples: list[_Sample], where: str) -> None:
    for sample in samples:
        for name in ("query", "key", "value", "target"):
            if not bool(torch.isfinite(getattr(sample, name)).all()):
                what = "attention output" if name == "target" else name
                raise ValueError(f"{where}: its {what} is not finite at {sample.length} tokens: weights are too large")


def _project(attention: AttentionLayer, hidden: Tensor, attention_output: Tensor) -> _Sample:
    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (attention.module.n_heads, -1)).transpose(1, 2)

    q, k, v = (heads(linear(hidden)) for linear in (attention.query, attention.key, attention.value))
    target = heads(attention_output).float()
    energy = _inner(target, target).clamp_min(torch.finfo(torch.float32).tiny)  # a pruned head gives zero
    values, mean = center_values(v, None, attention.module.config.inhibitor_value_center)
    if mean is not None:
        target = target - mean.float()
    return _Sample(q, k, values, target, energy)


def _calibrate_layer(
    attention: AttentionLayer, samples: list[_Sample], initial: Tensor, grid: Grid, advance: Advance
) -> list[float]:
    """Set every head's scalars to the best of the grid; one whose error `initial` none is below keeps its own."""
    unit_v = _mean([sample.value.abs().float().mean(dim=(0, 2, 3)) for sample in samples])  # (H,)
    unit_s = _mean([_score_deviation(sample) for sample in samples])
    best = initial
    found = {n: getattr(attention.scalars, n).clone() for n in ("gamma", "delta", "eta", "length_exponent")}
    for g in grid.gamma:
        for d in grid.delta:
            gamma, delta = g * unit_v / unit_s, d * unit_v
            eta, exponent, error = _least_squares(attention, samples, gamma, delta, grid.length_exponent)
            better = error < best
            best = torch.where(better, error, best)
            for name, value in zip(found, (gamma, delta, eta, exponent), strict=True):
                found[name] = torch.where(better, value, found[name])
            advance(1)
    for name, value in found.items():
        getattr(attention.scalars, name).copy_(value)
    return best.tolist()


def _least_squares(
    attention: AttentionLayer,
    samples: list[_Sample],
    gamma: Tensor,
    delta: Tensor,
    exponents: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Best η and ρ per head for given γ and δ, and the relative error they leave; each (H,)."""
    config, n0 = attention.module.config, attention.scalars.length_reference
    uu, ut = [], []  # per length: <U, U> and <U, T> over the energy, with U the output at η = 1, ρ = 0, T its target
    for sample in samples:
        u = inhibitor_attention(
            sample.query,
            sample.key,
            sample.value,
            gamma=gamma,
            delta=delta,
            signed=config.inhibitor_signed,
            center=config.inhibitor_center,
        ).float()
        uu.append(_inner(u, u) / sample.energy)
        ut.append(_inner(u, sample.target) / sample.energy)
    nothing = _mean([sample.zero_error for sample in samples])
    best = torch.full_like(gamma, math.inf)
    eta, exponent = torch.zeros_like(gamma), torch.zeros_like(gamma)
    for rho in exponents:
        factors = [(n0 / sample.length) ** rho for sample in samples]
        a = _mean([f * x for f, x in zip(factors, ut, strict=True)])
        b = _mean([f * f * x for f, x in zip(factors, uu, strict=True)])
        error = torch.where(b > 0, nothing - a.square() / b, nothing)
        better = error < best
        best = torch.where(better, error, best)
        eta = torch.where(better, torch.where(b > 0, a / b, torch.ones_like(b)), eta)
        exponent = torch.where(better, torch.full_like(exponent, rho), exponent)
    return eta, exponent, best


def _current_error(attention: AttentionLayer, samples: list[_Sample]) -> Tensor:
    """Relative error per head at the scalars as they are, (H,)."""
    config = attention.module.config
    errors = []
    for sample in samples:
        output = inhibitor_attention(
            sample.query,
            sample.key,
            sample.value,
            **attention.scalars.as_arguments(),
            signed=config.inhibitor_signed,
            center=config.inhibitor_center,
        ).float()
        difference = output - sample.target
        errors.append(_inner(difference, difference) / sample.energy)
    return _mean(errors)


def _score_deviation(sample: _Sample) -> Tensor:
    """mean |S − row mean of S| per head at γ = 1; the mean of a centered row's positive half is half of that."""
    z = inhibition_scores(sample.query, sample.key, gamma=1.0, delta=0.0)
    return 2 * z.float().mean(dim=(0, 2, 3))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(0, 2, 3))


def _mean(per_length: list[Tensor]) -> Tensor:
    return torch.stack(per_length).mean(0)
