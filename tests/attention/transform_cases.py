"""The operation as a function of its tensors, in every engine, and its derivatives in float64: for transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention.cases import Shape, random_bools, random_inputs
from tests.attention.engine_cases import error

TINY = Shape(batch=2, heads=2, kv_heads=1, queries=3, keys=4, features=2, value_features=3)
NAMES = ("query", "key", "value", "gamma", "eta", "delta", "length_exponent")
ALL = tuple(range(len(NAMES)))
PADDING = torch.tensor([[True, True, True, False], [True, True, True, True]])
PAIRS = random_bools(3, 2, 1, 3, 4)
MASKS: dict[str, Any] = {"key_padding_mask": PADDING, "attn_mask": PAIRS}

has_cpu = pytest.mark.skipif(library.unavailable() is not None, reason=f"engine cpu: {library.unavailable()}")
CPU = pytest.param("cpu", marks=has_cpu)
engines = pytest.mark.parametrize("engine", ["reference", "auto", CPU])
forward_engines = pytest.mark.parametrize("engine", ["reference", "auto"])

Function = Callable[..., Tensor]


def attention(engine: str, **options: Any) -> Function:
    """The operation as a function of its seven tensors, or of the first of them."""

    def of(*tensors: Tensor) -> Tensor:
        return inhibitor_attention(**dict(zip(NAMES, tensors, strict=False)), engine=engine, **(options or MASKS))

    return of


def loss(engine: str, **options: Any) -> Function:
    return lambda *tensors: (attention(engine, **options)(*tensors) * weights(tensors[0])).square().sum()


def weights(like: Tensor) -> Tensor:
    return torch.arange(1, 4, dtype=like.dtype).sin()


def tensors(dtype: torch.dtype = torch.float32, seed: int = 0, shape: Shape = TINY) -> tuple[Tensor, ...]:
    """The same numbers in every dtype."""
    return tuple(t.float().to(dtype) for t in random_inputs(shape, seed).values())


def exact() -> tuple[Tensor, ...]:
    return tensors(torch.float64)


def directions(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    return tensors(dtype, seed=1)


def true_gradients() -> tuple[Tensor, ...]:
    leaves = [t.requires_grad_() for t in exact()]
    return torch.autograd.grad(loss("reference")(*leaves), leaves)


def true_derivative() -> Tensor:
    """Of the output in the direction of `directions()`, by a central difference in float64."""
    step, f = 1e-6, attention("reference")
    ahead, behind = (
        [t + s * d for t, d in zip(exact(), directions(torch.float64), strict=True)] for s in (step, -step)
    )
    return (f(*ahead) - f(*behind)) / (2 * step)


def assert_agrees(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Largest deviation against the largest number, of each tensor; float32 rounds to 6e-8 some dozen times."""
    if isinstance(actual, Tensor):
        assert actual.shape == expected.shape
        assert error(actual, expected) <= tolerance
        return
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_agrees(a, e, tolerance)


def of_all(engine: str) -> Function:
    def called(*given: Tensor) -> Tensor:
        masks = {"key_padding_mask": given[7], "attn_mask": given[8]}
        return attention(engine, **masks)(*given[:7])

    return called
