"""Random inputs of the operation, and a call that returns output and gradients together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from inhibitor_transformers.attention import inhibitor_attention, reference

Inputs = dict[str, Tensor]
SCALARS = ("gamma", "eta", "delta", "length_exponent")


class Shape(NamedTuple):
    batch: int = 2
    heads: int = 4
    kv_heads: int = 2
    queries: int = 5
    keys: int = 6
    features: int = 3
    value_features: int = 4


def random_inputs(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """query, key, value and scalars that differ per head; of both signs, but for a positive gamma."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    inputs = {
        "query": normal(shape.batch, shape.heads, shape.queries, shape.features),
        "key": normal(shape.batch, shape.kv_heads, shape.keys, shape.features),
        "value": normal(shape.batch, shape.kv_heads, shape.keys, shape.value_features),
        "gamma": 0.2 + normal(shape.heads).abs(),
        "eta": normal(shape.heads),
        "delta": 0.5 * normal(shape.heads),
        "length_exponent": normal(shape.heads),
    }
    return {name: tensor.to(dtype) for name, tensor in inputs.items()}


def random_bools(seed: int, *size: int, valid: float = 0.7) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) < valid


MASKS = ("no mask", "padding", "pairs", "causal", "all masks")


def masks(kind: str, shape: Shape, *, heads: int = 1) -> dict[str, Any]:
    """Mask arguments of a call, one of `MASKS`; `heads`: of the mask of pairs."""
    padding = random_bools(1, shape.batch, shape.keys)
    pairs = random_bools(2, shape.batch, heads, shape.queries, shape.keys)
    return {
        "no mask": {},
        "padding": {"key_padding_mask": padding},
        "pairs": {"attn_mask": pairs},
        "causal": {"is_causal": True},
        "all masks": {"key_padding_mask": padding, "attn_mask": pairs, "is_causal": True},
    }[kind]


@contextmanager
def chunks_of(elements: int) -> Iterator[None]:
    """Temporaries of at most `elements`: 1 makes every query row a chunk of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "CHUNK_ELEMENTS", elements)
        yield


class Result(NamedTuple):
    output: Tensor
    gradients: Inputs


def run(
    inputs: Mapping[str, Tensor], *, rows: Tensor | None = None, weight: Tensor | None = None, **options: Any
) -> Result:
    """The output at query `rows` and the gradient of its weighted sum for every input."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    output = inhibitor_attention(**leaves, **options)
    if rows is not None:
        output = output[:, :, rows]
    if weight is None:
        weight = weights_for(output)
    gradients = torch.autograd.grad((output * weight).sum(), list(leaves.values()))
    return Result(output.detach(), dict(zip(leaves, gradients, strict=True)))


def assert_derivatives(inputs: Inputs, **options: Any) -> None:
    """First and second derivatives of the reference, for every input, are what differences of the output say."""
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items()}

    def of(*tensors: Tensor) -> Tensor:
        return inhibitor_attention(**dict(zip(leaves, tensors, strict=True)), **options, engine="reference")

    assert gradcheck(of, tuple(leaves.values()))
    assert gradgradcheck(of, tuple(leaves.values()))


def assert_same_in_chunks(inputs: Inputs, elements: int, **options: Any) -> None:
    """Temporaries of at most `elements` change neither the output nor a gradient."""
    whole = run(inputs, **options)
    with chunks_of(elements):
        cut = run(inputs, **options)
    assert_same_result(cut, whole)


def weights_for(output: Tensor) -> Tensor:
    """Fixed weights without structure, so that no two output elements can stand in for each other."""
    return torch.arange(1, output.numel() + 1, dtype=torch.float64).sin().view(output.shape).to(output.dtype)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Equal but for the rounding of float64 sums in another order; NaN is never equal."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


def assert_same_result(actual: Result, expected: Result, *names: str) -> None:
    """Equal outputs, and equal gradients for `names` (all when none are given)."""
    assert_close(actual.output, expected.output)
    for name in names or expected.gradients:
        assert_close(actual.gradients[name], expected.gradients[name])
