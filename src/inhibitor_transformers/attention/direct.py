"""The calls that a model makes in plain eager inference, straight to the CPU kernels.

Where a decoder adds a token, what surrounds the kernels takes several times as long as they do. A model gives its own
tensors, of which little can be wrong; whatever is not plain goes through `inhibitor_attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import dispatch
from .call import CENTERS, Masks, Options, Tensors
from .checks import check_length_reference
from .cpu.engine import CPU
from .transforms import is_plain

_SCALARS = ("gamma", "eta", "delta", "length_exponent", "key_norm", "unit")
_SERVED = frozenset(("signed", "center", "is_causal"))
_MASKS = frozenset(("key_padding_mask", "attn_mask", "score_bias"))
_NO_MASKS = Masks(None, None)


def attend_directly(
    query: Tensor, key: Tensor, value: Tensor, scalars: dict[str, Any], options: dict[str, Any]
) -> Tensor | None:
    """H, (B, H, Nq, Dv), to the bit that of `inhibitor_attention` with these scalars and options; None: not plain.

    Plain are float32 tensors on a CPU whose sizes fit, without masks, bias, dropout and gradients, where "auto" would
    take the CPU engine and nobody watches, records or transforms operators.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or not _is_first():
        return None
    for name, option in options.items():
        unused = (option is None and name in _MASKS) or (name == "dropout_p" and option == 0.0)
        if name not in _SERVED and not unused:
            return None
    per_head: list[Any] = [scalars.get(name) for name in _SCALARS]
    tensors = Tensors(query, key, value, *per_head)
    center, length_reference = options.get("center", "mean"), scalars["length_reference"]
    if not (is_plain(*tensors) and _fit(tensors) and center in CENTERS):
        return None
    check_length_reference(length_reference)
    is_causal, is_signed = bool(options.get("is_causal", False)), bool(options.get("signed", True))
    given = Options(length_reference, is_causal, is_signed, center)
    assert CPU.kernels is not None
    return CPU.kernels.forward(tensors, _NO_MASKS, given, False)[0]


def _fit(tensors: Tensors) -> bool:
    """Whether dtypes, devices and sizes are those of a call."""
    for t in tensors:
        if t is not None and not (t.dtype is torch.float32 and t.is_cpu):
            return False
    q, k, v = tensors.qkv
    for t in (q, k, v):
        if t.layout is not torch.strided or t.is_nested or t.dim() != 4:
            return False
    (batch, heads, _, dim), (batch_of_value, kv_heads, keys, _) = q.shape, v.shape
    if batch_of_value != batch or k.shape != (batch, kv_heads, keys, dim):
        return False
    for t in tensors[3:]:
        if t is not None and t.shape != (heads,):
            return False
    return heads > 0 and dim > 0 and kv_heads > 0 and heads % kv_heads == 0


def _is_first() -> bool:
    """Whether the CPU engine is the one that "auto" takes for CPU tensors, if it serves them."""
    global _engines, _first
    if _engines is not dispatch.ENGINES:
        on_cpu = (e for e in dispatch.ENGINES if e.device in (None, "cpu") and e.unavailable() is None)
        _engines, _first = dispatch.ENGINES, next(on_cpu) is CPU
    return _first


_engines: tuple[Any, ...] | None = None
_first = False
