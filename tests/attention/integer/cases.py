"""Parameters and tensors that reach every quantized value, and every bound of the integers."""

from __future__ import annotations

import torch
from torch import Tensor

from inhibitor_transformers.attention.integer.qparams import MAX_DELTA, SHIFTS, QuantParams
from tests.attention.engine_cases import Shape


def random_qparams(shape: Shape, bits: int, seed: int = 0, *, extra: int = 0) -> QuantParams:
    """Scalars and steps drawn from all that is allowed, as no calibration would choose them; `extra` split features."""
    generator = torch.Generator().manual_seed(seed)
    heads, kv_heads = shape.heads, shape.kv_heads

    def integers(low: int, high: int, *size: int) -> Tensor:
        return torch.randint(low, high + 1, size, generator=generator, dtype=torch.int64).to(torch.int32)

    def powers(least: int, most: int, *size: int) -> Tensor:
        """Of all magnitudes alike."""
        exponents = least + (most - least) * torch.rand(size, generator=generator, dtype=torch.float64)
        return (2.0**exponents).round().to(torch.int64)

    delta = powers(0, 30, heads).clamp_max(MAX_DELTA) * integers(0, 1, heads).mul(2).sub(1)
    return QuantParams(
        bits=bits,  # type: ignore[arg-type]
        offset=torch.randn(kv_heads, shape.dim + extra, generator=generator),
        source=integers(0, shape.dim - 1, kv_heads, extra),
        inverse_step=powers(0, 10, kv_heads).float(),
        value_inverse_step=powers(0, 15, heads).float(),
        sign=integers(-1, 1, heads),
        delta=delta.to(torch.int32),
        shift=integers(*SHIFTS, heads),
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
