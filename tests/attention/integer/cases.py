"""Parameters and tensors that reach every quantized value, and every bound of the integers."""

from __future__ import annotations

import torch
from torch import Tensor

from inhibitor_transformers.attention.integer.qparams import MAX_DISTANCE, MAX_SUM, PRECISIONS, QuantParams
from tests.attention.engine_cases import Shape


def random_qparams(shape: Shape, bits: int, seed: int = 0) -> QuantParams:
    """Weights, scalars and steps drawn from all that is allowed, as no calibration would choose them."""
    generator = torch.Generator().manual_seed(seed)
    precision = PRECISIONS[bits]
    heads, per_feature = shape.heads, (shape.kv_heads, shape.dim)

    def integers(low: int, high: int, *size: int) -> Tensor:
        return torch.randint(low, high + 1, size, generator=generator, dtype=torch.int64).to(torch.int32)

    def powers(least: int, most: int, *size: int) -> Tensor:
        """Of all magnitudes alike."""
        exponents = least + (most - least) * torch.rand(size, generator=generator, dtype=torch.float64)
        return (2.0**exponents).round().to(torch.int64)

    largest = MAX_DISTANCE if precision.shift is not None else MAX_SUM
    delta = powers(0, 30, heads).clamp_max(MAX_DISTANCE) * integers(0, 1, heads).mul(2).sub(1)
    shift = torch.full((heads,), precision.shift, dtype=torch.int32) if precision.shift else integers(0, 46, heads)
    return QuantParams(
        bits=bits,  # type: ignore[arg-type]
        offset=torch.randn(per_feature, generator=generator),
        inverse_step=powers(0, 10, *per_feature).float(),
        weight=integers(1, precision.largest_weight(shape.dim), *per_feature),
        value_inverse_step=powers(0, 15, shape.kv_heads).float(),
        sign=integers(-1, 1, heads),
        delta=delta.to(torch.int32),
        multiplier=powers(0, 31, heads).clamp_max(largest).to(torch.int32),
        shift=shift,
        scale=torch.randn(heads, generator=generator),
        length_exponent=torch.rand(heads, generator=generator),
    )


def extreme(*size: int) -> Tensor:
    """Gaussian numbers of very different sizes, among them ±∞, NaN, zeros of both signs and subnormal ones."""
    special = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0, -0.0, 1e-40, 3e38, -3e38])
    drawn = torch.randn(size) * 10.0 ** torch.randint(-4, 5, size)
    return torch.where(torch.rand(size) < 0.1, special[torch.randint(0, len(special), size)], drawn)


def tensors(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    return (
        extreme(shape.batch, shape.heads, shape.queries, shape.dim),
        extreme(shape.batch, shape.kv_heads, shape.keys, shape.dim),
        extreme(shape.batch, shape.kv_heads, shape.keys, shape.value_dim),
    )
