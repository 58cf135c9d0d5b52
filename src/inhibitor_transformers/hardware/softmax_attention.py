"""Softmax attention as the dot-product head computes it, from and to floats: for the accuracy of quantized teachers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .circuits.softmax_model import MAX_GAIN, SoftmaxFormat, attend, normalize

MARGIN = 0.02  # of the squared error; less is noise, and other texts exceed a range that was clipped for it

Call = tuple[Tensor, Tensor, Tensor, Tensor]
"""q (B, H, Nq, D), k, v (B, H, Nk, D), valid (B, 1 or H, Nq, Nk) bool: which keys a query sees."""


@dataclass(frozen=True)
class SoftmaxSteps:
    """How a layer's heads are quantized: float64 steps and integers, all (H,).

    q_step·k_step·log₂(e)/√D is 2^−shift exactly, so that scores are rescaled by a shift. Outputs have the step
    v_step·2^−gain.
    """

    bits: int
    q_step: Tensor
    k_step: Tensor
    v_step: Tensor
    shift: Tensor
    gain: Tensor


def softmax_attention_integers(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor,
    steps: SoftmaxSteps,
    *,
    requantized: bool = False,
    chunk: int | None = None,
) -> Tensor:
    """(B, H, Nq, D) float32: attention outputs; 0 where a query sees no key. Scores are scaled by 1/√D.

    requantized: outputs are integers of `steps.bits` bits, times their step, as the circuit's normalizer gives them;
    otherwise sums are divided in floats. chunk: how many keys are renormalized at once; None: D, as in the circuit.
    """
    form = SoftmaxFormat(steps.bits, chunk or q.shape[-1])
    sums, weights = _attend(q, k, v, valid, steps, form)
    if requantized:
        outputs = torch.from_numpy(normalize(sums, weights, steps.gain.numpy(), form)).double()
        step = steps.v_step * torch.exp2(-steps.gain.double())
    else:
        outputs = torch.from_numpy(sums) / torch.from_numpy(weights)[..., None].clamp(min=1)
        step = steps.v_step
    return (outputs * step[:, None, None]).float()


def choose_steps(calls: Sequence[Call], bits: int, *, chunk: int | None = None) -> SoftmaxSteps:
    """The steps with the least squared error of attention outputs, per head, over calibration calls of one layer.

    Tried are ranges: shifts around the one at which nothing is clipped, each with three ratios of q's step to k's, then
    steps of v, then gains. All heads have keys and values of their own.
    """
    form = SoftmaxFormat(bits, chunk or calls[0][0].shape[-1])
    expected = [scaled_dot_product_attention(q, k, v, attn_mask=valid).double() for q, k, v, valid in calls]
    q_range, k_range, v_range = (
        torch.stack([call[i].double().abs().amax((0, 2, 3)) for call in calls]).amax(0).clamp(min=1e-9) / form.top
        for i in range(3)
    )
    unit = math.sqrt(calls[0][0].shape[-1]) / math.log2(math.e)
    lossless = torch.floor(torch.log2(unit / (q_range * k_range))).clamp(0, 31)

    def exponents() -> Iterator[SoftmaxSteps]:
        for more in range(-1, 4):
            for ratio in (1.0, 2**-0.5, 2**0.5):
                shift = (lossless + more).clamp(0, 31)
                step = torch.sqrt(torch.exp2(-shift) * unit * q_range / k_range) * ratio
                yield SoftmaxSteps(
                    bits, step, torch.exp2(-shift) * unit / step, v_range, shift.long(), torch.zeros_like(shift).long()
                )

    def errors(steps: SoftmaxSteps, *, requantized: bool) -> Tensor:
        """(H,) squared."""
        total = torch.zeros_like(q_range)
        for (q, k, v, valid), outputs in zip(calls, expected, strict=True):
            found = softmax_attention_integers(q, k, v, valid, steps, requantized=requantized, chunk=form.chunk)
            seen = valid.any(-1, keepdim=True)
            total += ((found - outputs).square() * seen).nan_to_num().sum((0, 2, 3))
        return total

    best = _least(exponents(), lambda steps: errors(steps, requantized=False))
    clipped = [replace(best, v_step=v_range * 2 ** (-less / 4)) for less in range(6)]
    best = _least(clipped, lambda steps: errors(steps, requantized=False))
    return _least(
        [replace(best, gain=torch.full_like(best.gain, gain)) for gain in range(MAX_GAIN + 1)],
        lambda steps: errors(steps, requantized=True),
    )


def _attend(
    q: Tensor, k: Tensor, v: Tensor, valid: Tensor, steps: SoftmaxSteps, form: SoftmaxFormat
) -> tuple[np.ndarray, np.ndarray]:
    integers = [
        (x.double() / step[:, None, None]).round().clamp(-form.top, form.top).long().numpy()
        for x, step in ((q, steps.q_step), (k, steps.k_step), (v, steps.v_step))
    ]
    seen = valid.expand(*q.shape[:3], k.shape[2]).numpy()
    return attend(integers[0], integers[1], integers[2], seen, steps.shift.numpy(), form)


def _least(candidates: Iterable[SoftmaxSteps], errors: Callable[[SoftmaxSteps], Tensor]) -> SoftmaxSteps:
    """Per head the candidate of least error: a later one, with a smaller range, only if it is better by `MARGIN`."""
    best: SoftmaxSteps | None = None
    least = torch.empty(0)
    for candidate in candidates:
        error = errors(candidate)
        if best is None:
            best, least = candidate, error
            continue
        better = error < (1 - MARGIN) * least
        least = torch.where(better, error, least)
        best = SoftmaxSteps(
            best.bits, *(torch.where(better, getattr(candidate, f), getattr(best, f)) for f in _PER_HEAD)
        )
    assert best is not None
    return best


_PER_HEAD = ("q_step", "k_step", "v_step", "shift", "gain")
