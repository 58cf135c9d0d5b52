"""The C structures that the kernels of csrc/ take: their members, and how a call is packed into them.

csrc/inhibitor.h declares the same members in the same order; tests/attention/test_cpu_abi.py compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import torch
from torch import Tensor

from ..call import Masks, Options

ABI_VERSION = 10

CENTER_CODES = {"none": 0, "mean": 1, "min": 2}

INTEGER, DOUBLE, POINTER = "q", "d", "q"  # of `struct`; every member has 8 bytes
TENSOR4 = "4q"  # address and strides of (B, H, N, D); the last dimension is contiguous
PER_HEAD = "2q"  # address and stride of (H,)


class CStruct:
    """A C structure: the format of each member, by name. `pack` takes their numbers, in this order."""

    def __init__(self, **members: str) -> None:
        self.members = members
        struct = Struct(" ".join(members.values()))
        self.pack, self.size = struct.pack, struct.size


CALL = CStruct(
    batch=INTEGER,
    heads=INTEGER,
    kv_heads=INTEGER,
    queries=INTEGER,
    keys=INTEGER,
    dim=INTEGER,
    value_dim=INTEGER,
    query=TENSOR4,
    key=TENSOR4,
    value=TENSOR4,
    gamma=PER_HEAD,
    eta=PER_HEAD,
    delta=PER_HEAD,
    length_exponent=PER_HEAD,
    key_norm=PER_HEAD,
    unit=PER_HEAD,
    length_reference=DOUBLE,
    score_bias=POINTER,
    score_bias_stride="2q",
    key_mask=POINTER,
    key_mask_stride="2q",
    attn_mask=POINTER,
    attn_mask_stride="4q",
    is_causal=INTEGER,
    is_signed=INTEGER,
    center=INTEGER,
    dtype=INTEGER,
    threads=INTEGER,
    parallel=POINTER,
    pool=POINTER,
    out=TENSOR4,
    grad_out=TENSOR4,
    grad_query=TENSOR4,
    grad_key=TENSOR4,
    grad_value=TENSOR4,
    grad_scalars=POINTER,
    grad_bias=POINTER,
)

# What `InhibitorIntegerCall` has after its member `call`.
INTEGER_CALL = CStruct(
    bits=INTEGER,
    offset=POINTER,
    source=POINTER,
    inverse_step=POINTER,
    value_inverse_step=POINTER,
    sign=POINTER,
    delta=POINTER,
    shift=POINTER,
    extra=INTEGER,
    factors=POINTER,
    factor_stride=INTEGER,
    sums=POINTER,
    levels=POINTER,
    levels_stride="3q",
    output_multiplier=POINTER,
    output_multiplier_stride=INTEGER,
    output_shift=POINTER,
    output_zero=INTEGER,
    output_qmax=INTEGER,
)

_NO_SCALARS = (0,) * 12
_NO_GRADIENTS = (0,) * 18


def unit_stride(t: Tensor) -> Tensor:
    """`t` with a contiguous last dimension; a copy only where it has none."""
    return t if t.stride(-1) == 1 or t.shape[-1] <= 1 else t.contiguous()


def tensor4(t: Tensor) -> tuple[int, ...]:
    """The member of a (B, H, N, D) tensor."""
    return (t.data_ptr(), *t.stride()[:3])


def _bias(t: Tensor) -> tuple[int, int, int]:
    """Address and strides of (H or 1, Nq, Nk)."""
    return t.data_ptr(), t.stride(0) if t.shape[0] > 1 else 0, t.stride(1)


def pack_call(
    qkv: Sequence[Tensor],
    scalars: Sequence[Tensor | None] | None,
    masks: Masks,
    options: Options,
    out: Tensor,
    *,
    threads: int,
    score_bias: Tensor | None = None,
    gradients: Sequence[int] = _NO_GRADIENTS,
) -> bytes:
    """`InhibitorCall` of float32 tensors; the caller keeps all of them alive.

    qkv: with contiguous last dimensions; float32, or bfloat16 as `out` then is. scalars: as `Tensors.scalars`; None for
        integers.
    score_bias: (H or 1, Nq, Nk), with a contiguous last dimension.
    gradients: the members from `grad_out` on, for the backward pass.
    """
    query, key, value = qkv
    batch, heads, queries, dim = query.shape
    _, kv_heads, keys, value_dim = value.shape
    key_mask, attn_mask = masks
    of_heads: list[int] | tuple[int, ...] = _NO_SCALARS
    if scalars is not None:
        of_heads = []
        for t in scalars:
            of_heads += (0, 0) if t is None else (t.data_ptr(), t.stride(0))
    return CALL.pack(  # before every call: positions take half the time of names
        *(batch, heads, kv_heads, queries, keys, dim, value_dim),
        *(query.data_ptr(), *query.stride()[:3]),  # `tensor4`
        *(key.data_ptr(), *key.stride()[:3]),
        *(value.data_ptr(), *value.stride()[:3]),
        *of_heads,
        options.length_reference,
        *((0,) * 3 if score_bias is None else _bias(score_bias)),
        *((0,) * 3 if key_mask is None else (key_mask.data_ptr(), *key_mask.stride())),
        *((0,) * 5 if attn_mask is None else (attn_mask.data_ptr(), *attn_mask.stride())),
        *(options.is_causal, options.is_signed, CENTER_CODES[options.center]),
        int(query.dtype == torch.bfloat16),  # INHIBITOR_FLOAT32, INHIBITOR_BFLOAT16
        *(threads, 0, 0),  # `parallel` and `pool`: torch's OpenMP runtime serves (library.py)
        *tensor4(out),
        *gradients,
    )
