"""Quantization parameters of one attention layer: the numbers that integer attention needs besides q, k and v."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..checks import check_length_reference
from ..saved_tensors import TensorVersions
from ..transforms import is_plain

Bits = Literal[8, 16]


@dataclass(frozen=True)
class Precision:
    """What a number of bits allows; the bounds keep every intermediate result exact (docs/explanation/integers.md)."""

    qmax: int  # q and k are quantized to 0 … qmax
    value_qmax: int  # v to −value_qmax … value_qmax, scores to 0 … value_qmax
    weight: int  # largest weight of a dimension
    delta: int  # largest |δ̂| that is chosen
    shift: int | None  # the fixed shift of the rescaling; None: as large as fits

    def largest_weight(self, dim: int) -> int:
        """The largest weight with which all `dim` weights together stay within the bound of a distance."""
        return max(min(self.weight, MAX_DISTANCE // (self.qmax * dim)), 1)


MAX_DISTANCE = 2**30
MAX_SUM = 2**31 - 1
PRECISIONS: dict[int, Precision] = {
    8: Precision(qmax=255, value_qmax=127, weight=64, delta=2**18, shift=23),
    16: Precision(qmax=32767, value_qmax=32767, weight=32767, delta=2**30, shift=None),
}


@dataclass(frozen=True)
class QuantParams:
    """The quantization of H query heads and Hkv key/value heads; see `reference.py` for the formulas.

    offset, inverse_step: o and r, (Hkv, D) float32, of queries and keys alike. weight: w, (Hkv, D) int32.
    value_inverse_step: (Hkv,) float32. sign, delta, multiplier, shift: σ, δ̂, m, s, (H,) int32.
    scale: η times the step of v, (H,) float32; length_exponent: ρ, (H,) float32; length_reference: n₀.

    Raises ValueError for shapes, dtypes or numbers with which the results would not be exact.
    """

    bits: Bits
    offset: Tensor
    inverse_step: Tensor
    weight: Tensor
    value_inverse_step: Tensor
    sign: Tensor
    delta: Tensor
    multiplier: Tensor
    shift: Tensor
    scale: Tensor
    length_exponent: Tensor
    length_reference: float = 64.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def precision(self) -> Precision:
        """What the number of bits allows."""
        return PRECISIONS[self.bits]

    @classmethod
    def from_ranges(
        cls,
        low: Tensor,
        high: Tensor,
        value_range: Tensor,
        *,
        gamma: Tensor,
        eta: Tensor,
        delta: Tensor,
        length_exponent: Tensor,
        length_reference: float = 64.0,
        bits: Bits = 8,
    ) -> QuantParams:
        """Parameters for given ranges; what lies outside is clipped to them.

        low, high: (Hkv, D), of queries and keys together. value_range: (Hkv,), the largest |v|. The scalars: (H,).
        """
        precision = _precision(bits)
        low, high, value_range = (t.detach().double() for t in (low, high, value_range))
        gamma, eta, delta = (t.detach().double() for t in (gamma, eta, delta))
        kv_heads, dim = low.shape
        groups = gamma.shape[0] // max(kv_heads, 1)
        most = precision.largest_weight(dim)
        # Of each head: the step of a dimension of weight 1. The widest dimension gets the largest weight. If γ is
        # tiny the step is made larger, or δ in units of it would not fit.
        unit = _positive((high - low).amax(-1)) / (precision.qmax * most)
        needed = delta.abs() * math.sqrt(dim) / (gamma.abs().clamp_min(1e-300) * precision.delta)
        needed = torch.where(gamma == 0, 0.0, needed).view(kv_heads, groups).amax(-1)
        unit = torch.maximum(unit, needed)
        weight = ((high - low) / (precision.qmax * unit[:, None])).ceil().clamp(1, most)
        step = unit[:, None] * weight
        value_step = _positive(value_range) / precision.value_qmax
        # σ(D − M) + δ̂ counts distances in units of |γ|/√D · unit; without γ it counts steps of v.
        head_value_step = value_step.repeat_interleave(groups)
        distance_unit = gamma.abs() / math.sqrt(dim) * unit.repeat_interleave(groups)
        distance_unit = torch.where(gamma == 0, head_value_step, distance_unit)
        multiplier, shift = _fixed_point(distance_unit / head_value_step, precision)
        return cls(
            bits=bits,
            offset=((low + high) / 2 - precision.qmax / 2 * step).float(),
            inverse_step=(1 / step).float(),
            weight=weight.to(torch.int32),
            value_inverse_step=(1 / value_step).float(),
            sign=gamma.sign().to(torch.int32),
            delta=(delta / distance_unit).round().clamp(-MAX_DISTANCE, MAX_DISTANCE).to(torch.int32),
            multiplier=multiplier,
            shift=shift,
            scale=(eta * head_value_step).float(),
            length_exponent=length_exponent.detach().float(),
            length_reference=length_reference,
        )

    @classmethod
    def from_tensors(cls, query: Tensor, key: Tensor, value: Tensor, **settings: object) -> QuantParams:
        """Parameters that cover all of these q (B, H, Nq, D), k (B, Hkv, Nk, D) and v (B, Hkv, Nk, Dv)."""
        kv_heads = key.shape[1]
        grouped = query.detach().unflatten(1, (kv_heads, -1)).transpose(1, 2).flatten(2, 3)  # (B, g, Hkv·Nq, D)
        grouped = grouped.unflatten(2, (kv_heads, -1)).transpose(1, 2).flatten(2, 3)
        both = torch.cat([grouped, key.detach()], 2)
        low, high = both.amin((0, 2)), both.amax((0, 2))
        return cls.from_ranges(low, high, value.detach().abs().amax((0, 2, 3)), **settings)  # type: ignore[arg-type]

    def factors(self, keys: int) -> Tensor:
        """f(n) = η · step of v · (n₀/n)^ρ for n = 0 … keys visible keys: (H, keys + 1) float32, a view."""
        if not is_plain(self.scale, self.length_exponent):  # what is made here would not outlive the transform
            return self._factors_up_to(keys)
        made_of = (self.scale, self.length_exponent)
        versions, known = self.__dict__.get("_factors", (None, None))
        # Powers take longer than a short text's attention.
        if versions is None or not versions.match(*made_of) or known.shape[1] <= keys:
            known = self._factors_up_to(max(keys, 511))
            self.__dict__["_factors"] = TensorVersions(*made_of), known
        return known[:, : keys + 1]

    def _factors_up_to(self, keys: int) -> Tensor:
        counts = torch.arange(keys + 1, dtype=torch.float64, device=self.scale.device).clamp_min(1)
        length = (self.length_reference / counts) ** self.length_exponent.double()[:, None]
        return (self.scale.double()[:, None] * length).float()


def _precision(bits: int) -> Precision:
    if bits not in PRECISIONS:
        raise ValueError(f"bits must be one of {sorted(PRECISIONS)}, got {bits!r}")
    return PRECISIONS[bits]


def _positive(ranges: Tensor) -> Tensor:
    """Ranges of which any multiple of a step can be taken: 1 where there is nothing to tell apart."""
    return torch.where(ranges > 0, ranges, torch.ones_like(ranges))


def _fixed_point(ratio: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """ratio ≈ m / 2^s with 31 bits of m, or a fixed s with which 32-bit arithmetic is enough."""
    if precision.shift is not None:
        shift = torch.full_like(ratio, precision.shift)
        largest = MAX_DISTANCE  # a larger one makes one unit of distance more than the largest score: no difference
    else:
        shift = (30 - ratio.clamp_min(2.0**-40).log2().floor()).clamp(0, 46)
        largest = MAX_SUM
    multiplier = (ratio * 2.0**shift).round().clamp(0, largest)
    return multiplier.to(torch.int32), shift.to(torch.int32)


def _check(qparams: QuantParams) -> None:
    precision = _precision(qparams.bits)
    kv_heads, dim = qparams.offset.shape if qparams.offset.dim() == 2 else (0, 0)
    count = qparams.sign.shape[0] if qparams.sign.dim() == 1 else 0
    per_feature, per_kv_head, per_head = (kv_heads, dim), (kv_heads,), (count,)
    expected = {
        "offset": (per_feature, torch.float32),
        "inverse_step": (per_feature, torch.float32),
        "weight": (per_feature, torch.int32),
        "value_inverse_step": (per_kv_head, torch.float32),
        **dict.fromkeys(("sign", "delta", "multiplier", "shift"), (per_head, torch.int32)),
        **dict.fromkeys(("scale", "length_exponent"), (per_head, torch.float32)),
    }
    for name, (shape, dtype) in expected.items():
        tensor = getattr(qparams, name)
        if tuple(tensor.shape) != shape or tensor.dtype != dtype or not tensor.is_contiguous():
            raise ValueError(f"{name} must be contiguous {shape} {dtype}, got {tuple(tensor.shape)} {tensor.dtype}")
    if kv_heads == 0 or dim == 0 or count % kv_heads:
        raise ValueError(f"{count} query heads must be a multiple of the key/value heads of {per_feature} offsets")
    check_length_reference(qparams.length_reference)
    tensors = {name: getattr(qparams, name) for name in expected}
    if is_plain(*tensors.values()):  # recorded or transformed, their numbers are not there to be read
        _check_numbers(qparams, precision, tensors)


def _check_numbers(qparams: QuantParams, precision: Precision, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} must be finite")
    bounds = {
        "weight": (1, precision.weight),
        "sign": (-1, 1),
        "delta": (-MAX_DISTANCE, MAX_DISTANCE),
        "multiplier": (0, MAX_DISTANCE if precision.shift is not None else MAX_SUM),
        "shift": (precision.shift, precision.shift) if precision.shift is not None else (0, 46),
    }
    for name, (least, most) in bounds.items():
        tensor = tensors[name]
        if bool((tensor < least).any() or (tensor > most).any()):
            raise ValueError(f"{name} must lie in [{least}, {most}]")
    largest = int(qparams.weight.sum(-1).max()) * precision.qmax
    if largest > MAX_DISTANCE:
        raise ValueError(f"a distance could reach {largest}, more than {MAX_DISTANCE}: the weights are too large")
