"""Nothing is timed unless it computes what it is meant to: of every side, before its first round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from inputs import Inputs
from torch import Tensor
from torch.nn import functional as F

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention import scalars as scalars_module
from inhibitor_transformers.attention.integer import module as integer_module

# Size of the difference over the size of what is expected. Two orders of adding float32 differ by some 1e-6 in it;
# gradients by 1e-3, where rounding decides a comparison otherwise, and so does torch.cdist, which subtracts large sums.
# A wrong mask, or wrong inputs, is 0.1 and more.
FLOAT32 = 1e-3
ROUNDED = 1e-2
HALF = 3e-2
INT8 = 0.3  # of a model of six layers against its floats; 0.06 after two
QUERIES = 16  # of the first row, which are compared with the reference in float64


def require_close(side: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise SystemExit unless `found` is `expected`, relative to its size, within the tolerance."""
    if found.shape != expected.shape:
        raise SystemExit(f"{side}: {tuple(found.shape)} for {tuple(expected.shape)}: nothing is reported")
    ours, theirs = found.double().cpu(), expected.double().cpu()
    difference = ((ours - theirs).norm() / theirs.norm().clamp_min(1e-30)).item()
    if not difference <= tolerance:
        raise SystemExit(f"{side} computes something else (by {difference:.1e} of its size): nothing is reported")


def softmax_of(inputs: Inputs, valid: Tensor | None) -> Tensor:
    """Softmax attention of the first row and its first queries, in float64."""
    q, k, v = (t[:1].detach().double() for t in inputs.qkv)
    mask = None if valid is None else valid[:1, None, None, :]
    return F.scaled_dot_product_attention(q[:, :, :QUERIES], k, v, attn_mask=mask)


def inhibitor_of(inputs: Inputs, valid: Tensor | None) -> Tensor:
    """Inhibitor attention of the first row and its first queries, by the reference in float64."""
    q, k, v = (t[:1].detach().double() for t in inputs.qkv)
    scalars = {name: t.detach().double().cpu() for name, t in inputs.scalars.items()}
    mask = None if valid is None else valid[:1]
    return inhibitor_attention(q[:, :, :QUERIES], k, v, **scalars, key_padding_mask=mask, engine="reference")


def first_of(output: Tensor) -> Tensor:
    """The part of an output (B, H, N, D) that `softmax_of` and `inhibitor_of` give."""
    return output[:1, :, :QUERIES]


def gradients_of(attention: Callable[..., Tensor], inputs: Inputs, grad: Tensor, valid: Tensor | None) -> list[Tensor]:
    """Gradients of q, k and v of the first row and head, in float64; `attention` as `baselines.Attention`."""
    leaves = [t[:1, :1].detach().double().requires_grad_() for t in inputs.qkv]
    scalars = {name: t[:1].detach().double().cpu() for name, t in inputs.scalars.items()}
    mask = None if valid is None else valid[:1]
    return list(torch.autograd.grad(attention(*leaves, mask, scalars), leaves, grad[:1, :1].double()))


@contextmanager
def plainly(model: Any) -> Iterator[None]:
    """While inside, a model computes its attention in the plainest way: eager softmax, or the reference's engines."""
    before, integers = scalars_module.inhibitor_attention, integer_module.integer_attention
    directly, implementation = scalars_module.attend_directly, model.config._attn_implementation
    scalars_module.inhibitor_attention = partial(before, engine="reference")
    scalars_module.attend_directly = lambda *_: None
    integer_module.integer_attention = partial(integers, engine="reference")
    if implementation == "sdpa":
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        scalars_module.inhibitor_attention, integer_module.integer_attention = before, integers
        scalars_module.attend_directly = directly
        if implementation == "sdpa":
            model.set_attn_implementation(implementation)


@torch.no_grad()
def last_hidden(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Hidden states of the tokens that are not padding, one after the other: (tokens, width)."""
    return model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


def require_plain_outputs(models: dict[str, Any], ids: Tensor, tolerance: float) -> None:
    """Each model gives what it gives with plain attention, for two rows of which the second is half padding."""
    ids = ids[:1].expand(2, -1)
    mask = torch.ones_like(ids)
    mask[1, (ids.shape[1] + 1) // 2 :] = 0
    for name, model in models.items():
        found = last_hidden(model, ids, mask)
        with plainly(model):
            expected = last_hidden(model, ids, mask)
        require_close(name, found, expected, tolerance)
