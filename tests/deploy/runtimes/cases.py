"""Inputs of the operator that every runtime offers, and what the reference makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from tests.attention.cases import Shape, random_inputs

SMALL = Shape(2, 4, 2, 5, 6, 3, 4)
SCALARS = ("gamma", "eta", "delta", "length_exponent")
SHAPES = [
    Shape(1, 1, 1, 1, 1, 1, 1),
    Shape(2, 4, 2, 5, 6, 3, 4),
    Shape(3, 6, 1, 63, 65, 8, 5),
    Shape(2, 2, 2, 111, 64, 64, 64),
    Shape(0, 2, 2, 3, 4, 8, 8),
    Shape(2, 2, 1, 0, 4, 8, 8),
    Shape(2, 2, 1, 4, 0, 8, 8),
]
# Attributes, and whether there is a mask and a bias: of each head (H) or of all (1).
OPTIONS: list[dict[str, Any]] = [
    {},
    {"masked": True},
    {"is_signed": False, "center": "none"},
    {"is_causal": True, "masked": True, "length_reference": 7.5},
    {"bias": "H", "masked": True},
    {"bias": "1", "center": "none", "is_signed": False, "is_causal": True},
]


class Case(NamedTuple):
    """float32; query, key and value (B, N, heads·size), the mask (B, Nk), the bias (H or 1, Nq, Nk)."""

    tensors: dict[str, Tensor | None]
    attributes: dict[str, Any]

    @property
    def arguments(self) -> tuple[Tensor | None, ...]:
        """In the operator's order."""
        order = ("query", "key", "value", "key_padding_mask", *SCALARS, "score_bias")
        return tuple(self.tensors[name] for name in order)


Run = Callable[[Case], Tensor]  # of a runtime


def make_case(shape: Shape, masked: bool = False, bias: str | None = None, **attributes: Any) -> Case:
    """Random; a mask pads row 0 behind and row 1 before, others anywhere."""
    found: dict[str, Tensor | None] = dict(random_inputs(shape, dtype=torch.float32))
    for name in ("query", "key", "value"):
        found[name] = flat(found[name])
    at = torch.arange(shape.keys)
    kinds = [at < (shape.keys + 1) // 2, at >= shape.keys // 2, at % 3 != 1]
    mask = torch.stack([kinds[row % 3] for row in range(shape.batch)]) if shape.batch else torch.ones(0, shape.keys) > 0
    found["key_padding_mask"] = mask if masked else None
    size = {"H": shape.heads, "1": 1, None: 0}[bias]
    found["score_bias"] = torch.randn(size, shape.queries, shape.keys) if bias else None
    return Case(found, {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads, **attributes})


def expected(case: Case, *, dtype: torch.dtype = torch.float64, engine: str = "reference") -> Tensor:
    """(B, Nq, H·Dv) of an engine of this package, computed in `dtype`."""
    tensors, attributes = case
    given: dict[str, Any] = {n: t if t is None or t.dtype == torch.bool else t.to(dtype) for n, t in tensors.items()}
    kv_heads = attributes["kv_num_heads"]
    for name, heads in (("query", attributes["num_heads"]), ("key", kv_heads), ("value", kv_heads)):
        t = given[name]
        given[name] = t.view(*t.shape[:2], heads, t.shape[2] // heads).transpose(1, 2)
    renamed = {"is_signed": "signed"}
    options = {renamed.get(n, n): v for n, v in attributes.items() if n not in ("num_heads", "kv_num_heads")}
    return flat(inhibitor_attention(**given, **options, engine=engine))


def flat(heads: Tensor | None) -> Tensor:
    """(B, N, H·D) of (B, H, N, D)."""
    assert heads is not None
    return heads.transpose(1, 2).flatten(2).contiguous()


def require_one_number_for_all_heads(run: Run) -> None:
    """What one number gives is what it gives once per head."""
    case = make_case(SMALL)
    one = {"gamma": torch.tensor([0.7]), "delta": torch.tensor(0.2)}
    of_each = {name: t.reshape(1).expand(4).contiguous() for name, t in one.items()}
    found, there = (run(case._replace(tensors=case.tensors | scalars)) for scalars in (one, of_each))
    assert torch.equal(found, there)


def require_masked_keys_unread(run: Run) -> None:
    """NaN in the keys and values that the mask leaves out changes nothing."""
    case = make_case(SMALL, masked=True)
    invalid = ~case.tensors["key_padding_mask"][..., None]
    poisoned = {name: case.tensors[name].masked_fill(invalid, torch.nan) for name in ("key", "value")}
    assert torch.equal(run(case._replace(tensors=case.tensors | poisoned)), run(case))
