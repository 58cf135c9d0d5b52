"""torch's operator inhibitor::InhibitorAttention, for programs that run without this package (csrc/runtimes/torch.cpp).

    InhibitorAttention(query, key, value, key_padding_mask, gamma, eta, delta, length_exponent, score_bias, num_heads,
                       kv_num_heads=0, length_reference=64.0, center="mean", is_signed=True, is_causal=False) -> Tensor

query (B, Nq, H·D), key (B, Nk, Hkv·D) and value (B, Nk, Hkv·Dv) as projections leave them, of one dtype: float32, or
bfloat16 or float16, which are computed in float32; returns (B, Nq, H·Dv) of that dtype. key_padding_mask (B, Nk) bool,
True = valid, or None. gamma, eta, delta, length_exponent: (H,) or (1,). score_bias (H, Nq, Nk), (1, Nq, Nk) or None.
kv_num_heads 0: as many as num_heads. For CPUs and inference; training has `inhibitor_attention`. Threads are torch's.
Raises RuntimeError for anything else.

One shared library serves every torch from 2.13 on. Whoever runs an exported model loads it, by
`torch.ops.load_library(path)` in Python and `dlopen(path, RTLD_NOW)` in C++, after torch.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from ...attention.cpu import library

NAME = "inhibitor::InhibitorAttention"
FILE = "_torch_operator.so"


def shared_library() -> Path:
    """The shared library; a copy of it serves as well. Raises UnavailableError, saying why there is none."""
    file = library.find().with_name(FILE)
    if not file.exists():
        raise library.UnavailableError(f"the package was installed without {FILE}: install it again")
    return file


def copy_library(folder: Path) -> None:
    """Copy the shared library to `folder`. Raises UnavailableError, and OSError where it cannot be written."""
    shutil.copy(shared_library(), folder)


def unavailable() -> str | None:
    """Why the operator cannot be loaded here; None: it can."""
    try:
        load()
    except library.UnavailableError as reason:
        return str(reason)
    return None


@cache
def load() -> Any:
    """The operator (`torch.ops.inhibitor.InhibitorAttention.default`), with what torch.export and torch.compile need.

    Raises UnavailableError, saying why it cannot be loaded.
    """
    path = shared_library()
    if not hasattr(torch.ops.inhibitor, "InhibitorAttention"):  # by the caller's own torch.ops.load_library
        try:
            torch.ops.load_library(path)
        except OSError as error:
            raise library.UnavailableError(f"torch's operator cannot be loaded: {error}") from error
    register_fake(NAME, _fake)
    return torch.ops.inhibitor.InhibitorAttention.default


def _fake(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    score_bias: Tensor | None,
    num_heads: int,
    kv_num_heads: int = 0,
    *options: Any,
) -> Tensor:
    return query.new_empty(*query.shape[:2], value.shape[-1] // (kv_num_heads or num_heads) * num_heads)
