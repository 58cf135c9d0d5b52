"""Quantization parameters of one attention layer: the numbers that integer attention needs besides q, k and v."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..checks import check_length_reference
from ..saved_tensors import TensorVersions
from ..transforms import is_plain
from .choose import choose_steps, positive, split_features

Bits = Literal[3, 4, 5, 6, 8, 16]
BITS: tuple[Bits, ...] = (3, 4, 5, 6, 8, 16)

# The bounds that keep every intermediate result exact (docs/explanation/integers.md).
MAX_DISTANCE = 2**29
MAX_DELTA = 2**30
MAX_SUM = 2**31 - 1
SHIFTS = (-15, 22)


@dataclass(frozen=True)
class QuantParams:
    """The quantization of H query heads and Hkv key/value heads; see `reference.py` for the formulas.

    bits: of q, k and v: 3 to 6, 8, 16. offset: o, (Hkv, F) float32, of queries and keys alike; the last F − D features
    repeat those that `source` names, (Hkv, F − D) int32. inverse_step: r, (Hkv,) float32. value_inverse_step: rᵥ,
    (H,) float32. sign, delta, shift: σ, δ̂, s, (H,) int32. scale: η times the step of v, (H,) float32.
    length_exponent: ρ, (H,) float32. length_reference: n₀.

    Raises ValueError for shapes, dtypes or numbers with which the results would not be exact.
    """

    bits: Bits
    offset: Tensor
    source: Tensor
    inverse_step: Tensor
    value_inverse_step: Tensor
    sign: Tensor
    delta: Tensor
    shift: Tensor
    scale: Tensor
    length_exponent: Tensor
    length_reference: float = 64.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def qmax(self) -> int:
        """L: q and k are quantized to 0 … L."""
        return 2**self.bits - 1

    @property
    def value_qmax(self) -> int:
        """Lᵥ: v is quantized to −Lᵥ … Lᵥ, scores to 0 … Lᵥ."""
        return 2 ** (self.bits - 1) - 1

    @property
    def dim(self) -> int:
        """D: features of queries and keys, before any of them is split."""
        return self.offset.shape[1] - self.source.shape[1]

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
        features: int | None = None,
    ) -> QuantParams:
        """Parameters for given ranges; what lies outside is clipped to them.

        Args:
            low, high: (Hkv, D), of queries and keys together.
            value_range: (H,), the largest |v| that each query head's values keep.
            gamma, eta, delta, length_exponent: (H,), the scalars.
            length_reference: n₀.
            bits: of q, k and v.
            features: F ≥ D. With more than D the widest are split, so that one step can be finer.

        Steps are as fine as the ranges allow, but for a factor below two: γ/√D · step of q must be a power of two of
        the step of v. Raises ValueError for other bits or fewer features than D.
        """
        _check_bits(bits)
        low, high, value_range = (t.detach().double() for t in (low, high, value_range))
        gamma, eta, delta = (t.detach().double() for t in (gamma, eta, delta))
        kv_heads, dim = low.shape
        groups = gamma.shape[0] // max(kv_heads, 1)
        qmax, value_qmax = 2**bits - 1, 2 ** (bits - 1) - 1
        split = split_features(low, high, dim if features is None else features)
        steps = choose_steps(
            split.width / qmax,
            positive(value_range) / value_qmax,
            gamma.abs() / dim**0.5,
            shifts=(SHIFTS[0], min(SHIFTS[1], 30 - bits)),  # so that δ̂ reaches all scores up to Lᵥ
        )
        offset, source = split.ranges(low, high, steps.feature * qmax)
        # σ(D − M) + δ̂ counts distances in units of |γ|/√D · step; without γ it counts steps of v.
        unit = gamma.abs() / dim**0.5 * steps.feature.repeat_interleave(groups)
        unit = torch.where(gamma == 0, steps.value, unit)
        return cls(
            bits=bits,
            offset=offset.float(),
            source=source.to(torch.int32),
            inverse_step=(1 / steps.feature).float(),
            value_inverse_step=(1 / steps.value).float(),
            sign=gamma.sign().to(torch.int32),
            delta=(delta / unit).round().clamp(-MAX_DELTA, MAX_DELTA).to(torch.int32),
            shift=steps.shift.to(torch.int32),
            scale=(eta * steps.value).float(),
            length_exponent=length_exponent.detach().float(),
            length_reference=length_reference,
        )

    @classmethod
    def from_tensors(cls, query: Tensor, key: Tensor, value: Tensor, **settings: object) -> QuantParams:
        """Parameters that cover all of these q (B, H, Nq, D), k (B, Hkv, Nk, D) and v (B, Hkv, Nk, Dv)."""
        groups = query.shape[1] // key.shape[1]
        grouped = query.detach().unflatten(1, (-1, groups)).movedim(2, 1).flatten(0, 1)  # (B·g, Hkv, Nq, D)
        low = torch.minimum(grouped.amin((0, 2)), key.detach().amin((0, 2)))
        high = torch.maximum(grouped.amax((0, 2)), key.detach().amax((0, 2)))
        value_range = value.detach().abs().amax((0, 2, 3)).repeat_interleave(groups)
        return cls.from_ranges(low, high, value_range, **settings)  # type: ignore[arg-type]

    def factors(self, keys: int) -> Tensor:
        """f(n) = η · step of v · (n₀/n)^ρ for n = 0 … keys visible keys: (H, keys + 1) float32, a view."""
        return table_of_lengths(self, keys, self._factors_up_to, self.scale, self.length_exponent)

    def _factors_up_to(self, keys: int) -> Tensor:
        counts = torch.arange(keys + 1, dtype=torch.float64, device=self.scale.device).clamp_min(1)
        length = (self.length_reference / counts) ** self.length_exponent.double()[:, None]
        return (self.scale.double()[:, None] * length).float()


def table_of_lengths(owner: object, keys: int, make: Callable[[int], Tensor], *made_of: Tensor) -> Tensor:
    """The first keys + 1 columns of `make(…)`, (H, …), kept in `owner` until one of the tensors `made_of` changes.

    Powers take longer than a short text's attention.
    """
    if not is_plain(*made_of):  # what is made here would not outlive the transform
        return make(keys)
    versions, known = owner.__dict__.get("_table", (None, None))
    if versions is None or not versions.match(*made_of) or known.shape[1] <= keys:
        known = make(max(keys, 511))
        owner.__dict__["_table"] = TensorVersions(*made_of), known
    table: Tensor = known[:, : keys + 1]
    return table


def _check_bits(bits: int) -> None:
    if type(bits) is not int or bits not in BITS:
        raise ValueError(f"bits must be one of {list(BITS)}, got {bits!r}")


def _check(qparams: QuantParams) -> None:
    _check_bits(qparams.bits)
    kv_heads, features = qparams.offset.shape if qparams.offset.dim() == 2 else (0, 0)
    extra = qparams.source.shape[1] if qparams.source.dim() == 2 else 0
    count = qparams.sign.shape[0] if qparams.sign.dim() == 1 else 0
    per_head = (count,)
    expected = {
        "offset": ((kv_heads, features), torch.float32),
        "source": ((kv_heads, extra), torch.int32),
        "inverse_step": ((kv_heads,), torch.float32),
        "value_inverse_step": (per_head, torch.float32),
        **dict.fromkeys(("sign", "delta", "shift"), (per_head, torch.int32)),
        **dict.fromkeys(("scale", "length_exponent"), (per_head, torch.float32)),
    }
    for name, (shape, dtype) in expected.items():
        tensor = getattr(qparams, name)
        if tuple(tensor.shape) != shape or tensor.dtype != dtype or not tensor.is_contiguous():
            raise ValueError(f"{name} must be contiguous {shape} {dtype}, got {tuple(tensor.shape)} {tensor.dtype}")
    if kv_heads == 0 or features <= extra or count % kv_heads:
        raise ValueError(
            f"{count} query heads must be a multiple of the key/value heads of ({kv_heads}, {features}) offsets, "
            f"of which {extra} belong to split features"
        )
    if features * qparams.qmax > MAX_DISTANCE:
        raise ValueError(
            f"a distance could reach {features * qparams.qmax}, more than {MAX_DISTANCE}: too many features"
        )
    check_length_reference(qparams.length_reference)
    tensors = {name: getattr(qparams, name) for name in expected}
    if is_plain(*tensors.values()):  # recorded or transformed, their numbers are not there to be read
        _check_numbers(qparams, tensors)


def _check_numbers(qparams: QuantParams, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} must be finite")
    for name in ("inverse_step", "value_inverse_step"):
        if not bool((tensors[name] > 0).all()):
            raise ValueError(f"{name} must be positive")
    bounds = {"source": (0, qparams.dim - 1), "sign": (-1, 1), "delta": (-MAX_DELTA, MAX_DELTA), "shift": SHIFTS}
    for name, (least, most) in bounds.items():
        tensor = tensors[name]
        if bool((tensor < least).any() or (tensor > most).any()):
            raise ValueError(f"{name} must lie in [{least}, {most}]")
