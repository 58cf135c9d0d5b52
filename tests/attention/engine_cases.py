"""Inputs, and the comparison with the float64 reference, that the tests of compiled engines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibition_scores, inhibitor_attention
from inhibitor_transformers.attention.cpu import library

SCALARS = ("gamma", "eta", "delta", "length_exponent")


@dataclass(frozen=True)
class Shape:
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    dim: int
    value_dim: int


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Run with one instruction set, with scratch memory poisoned by NaN."""
    kernels = library.load()
    before = kernels.isa
    kernels.use_isa(name)
    kernels.poison_scratch(True)
    try:
        yield
    finally:
        kernels.poison_scratch(False)
        kernels.use_isa(before)


def masks(kind: str, shape: Shape) -> dict[str, Any]:
    """Mask arguments of a call: "none", "padding", "left padding", "attn_mask", "causal" or "all"; random, 7 in 10."""
    options: dict[str, Any] = {"is_causal": kind in ("causal", "all")}
    if kind in ("padding", "all"):
        options["key_padding_mask"] = torch.rand(shape.batch, shape.keys) < 0.7
    if kind == "left padding":
        options["key_padding_mask"] = torch.arange(shape.keys) >= torch.arange(shape.batch)[:, None] * 9
    if kind in ("attn_mask", "all"):
        options["attn_mask"] = torch.rand(shape.batch, 1, shape.queries, shape.keys) < 0.7
    return options


def on_grid(*shape: int) -> Tensor:
    """Multiples of 1/128: sums and differences are exact in float32, and ties are frequent."""
    return torch.randint(-256, 257, shape).float() / 128


def inputs(shape: Shape, draw=on_grid, *, off_lattice: float = 4e-6) -> dict[str, Tensor]:
    """All tensor arguments of a call.

    With q, k and v on the grid, gamma = sqrt(D) / 8 and n keys, S - mean S is a multiple of 1 / (1024 n).
    A delta that is off this lattice keeps every comparison of the gradient away from equality by more
    than float32 rounds, for n up to about 130 (any n when not centered): gradients must agree everywhere.
    """
    s = shape
    return {
        "query": draw(s.batch, s.heads, s.queries, s.dim),
        "key": draw(s.batch, s.kv_heads, s.keys, s.dim),
        "value": draw(s.batch, s.kv_heads, s.keys, s.value_dim),
        "gamma": torch.full((s.heads,), s.dim**0.5 / 8),
        "eta": torch.randn(s.heads),
        "delta": torch.randint(0, 65, (s.heads,)) / 128 + off_lattice,
        "length_exponent": torch.rand(s.heads),
    }


def normalized(shape: Shape, *given: str, draw=None, center: str = "mean", bias: bool = False) -> dict[str, Tensor]:
    """`inputs` with the scalars `given`, and where `bias` is true a bias on the grid, the same for all heads.

    On the grid λ is whole and u on it: comparisons keep off equality.
    """
    drawn = {} if draw is None else {"draw": draw}
    tensors = inputs(shape, **drawn, off_lattice=4e-6 if center == "mean" else 3e-4)
    whole = torch.randint(-1, 3, (shape.heads,)).float()
    unit = torch.randint(16, 257, (shape.heads,)).float() / 128 * (1 - 2 * (torch.arange(shape.heads) % 2))
    tensors |= {name: t for name, t in (("key_norm", whole), ("unit", unit)) if name in given}
    return tensors | (
        {"score_bias": torch.randint(-64, 65, (1, shape.queries, shape.keys)).float() / 64} if bias else {}
    )


def outputs(tensors: dict[str, Tensor], grad: Tensor, engine: str, dtype: torch.dtype, **options) -> dict[str, Tensor]:
    """The output ("out") and the gradient of every input, computed in `dtype`."""
    leaves = {name: t.detach().to(dtype).requires_grad_() for name, t in tensors.items()}
    out = inhibitor_attention(**leaves, engine=engine, **options)
    grads = torch.autograd.grad(out, list(leaves.values()), grad.to(dtype))
    return {"out": out.detach(), **dict(zip(leaves, grads, strict=True))}


def error(got: Tensor, expected: Tensor) -> float:
    """Largest deviation relative to the largest expected value."""
    if expected.numel() == 0:
        return 0.0
    return ((got.double() - expected.double()).abs().max() / expected.abs().max().clamp(min=1e-6)).item()


def has_one_least(tensors: dict[str, Tensor], **options) -> Tensor:
    """(B, H, Nq, 1): 1 for rows whose least score is apart from the next by more than float32 rounds, else 0.

    Where scores are not exact, rounding decides which of equal ones is the least, and so where its gradient goes.
    """
    names = ("query", "key", "gamma", "key_norm", "score_bias")
    given = {name: tensors[name].double() for name in names if name in tensors}
    shared = {n: options[n] for n in ("key_padding_mask", "attn_mask", "is_causal") if n in options}
    z = inhibition_scores(**given, delta=1e3, center="none", **shared)
    if z.shape[-1] < 2:
        return torch.ones(*z.shape[:3], 1, device=z.device)
    least, next_least = z.topk(2, largest=False).values.unbind(-1)
    apart = (next_least - least > 1e-5) | next_least.isinf()
    assert apart.float().mean() > 0.2
    return apart.float().unsqueeze(-1)


def compare(
    tensors: dict[str, Tensor], tolerance: float, engine: str = "cpu", *, exact_ties: bool = False, **options
) -> None:
    """Assert that `engine` agrees with the float64 reference in the output and all gradients.

    exact_ties: whether scores are exact, so that equal ones are so in any engine; matters for center="min".
    """
    grad = torch.randn(*tensors["query"].shape[:3], tensors["value"].shape[3], device=tensors["query"].device)
    if options.get("center") == "min" and not exact_ties:
        grad = grad * has_one_least(tensors, **options)
    got = outputs(tensors, grad, engine, torch.float32, **options)
    expected = outputs(tensors, grad, "reference", torch.float64, **options)
    wrong = {name: e for name in got if not (e := error(got[name], expected[name])) <= tolerance}
    assert not wrong, wrong


def assert_compiles_once_for_all_shapes(
    layer: Callable, compiled: Callable, inputs_of: Callable, *, own_sums: bool = False
) -> None:
    """Outputs and gradients (of q, k, v and a scalar) are those of eager mode, to the bit.

    own_sums: the compiler adds the scalar's gradients of the rows of a batch itself, in an order of its own.
    """
    stance = "default"
    for batch, length in ((3, 17), (5, 40), (4, 7)):  # sizes that happen to be equal would be taken for one
        args = inputs_of(batch, length)
        expected = layer(*args)
        with torch.compiler.set_stance(stance):
            out = compiled(*args)
            grads = torch.autograd.grad(out.sum(), args[:4])
        assert torch.equal(out, expected)
        for got, want in zip(grads, torch.autograd.grad(expected.sum(), args[:4]), strict=True):
            if own_sums and want.dim() == 1:
                torch.testing.assert_close(got, want, rtol=batch * torch.finfo(want.dtype).eps, atol=0.0)
            else:
                assert torch.equal(got, want)
        stance = "fail_on_recompile"
