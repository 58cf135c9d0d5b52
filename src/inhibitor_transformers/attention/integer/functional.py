"""The public function of integer attention: check at the border, choose an engine, run it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from ..call import Center, MaskedTensors, check_masked
from ..transforms import operation
from . import cpu
from . import reference as specification
from .gradient import without_gradient
from .qparams import MAX_SUM, QuantParams

ENGINES: dict[str, ModuleType] = {"cpu": cpu, "reference": specification}


@operation
def integer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: QuantParams,
    *,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    signed: bool = True,
    center: Center = "mean",
    engine: str = "auto",
) -> Tensor:
    """`inhibitor_attention` in integers (`specification.py`): every engine returns the same bits.

    Args:
        query, key, value, key_padding_mask, attn_mask, is_causal, signed, center: as in `inhibitor_attention`;
            quantized by `heads`, which holds the scalars too. A gradient is an error.
        engine: "auto", "cpu" (compiled) or "reference" (plain torch, any device).

    Returns:
        (B, H, Nq, Dv) float32.

    Raises:
        ValueError: wrong shapes, dtypes or devices, more keys than the sums can hold, or an engine that cannot serve.
    """
    call = MaskedTensors(
        **check_masked(
            query,
            key,
            value,
            key_padding_mask=key_padding_mask,
            attn_mask=attn_mask,
            is_causal=is_causal,
            signed=signed,
            center=center,
        )
    )
    check(call, heads)
    return without_gradient(select(call, engine).run(call, heads), query, key, value)


@operation
def integer_scores(
    query: Tensor,
    key: Tensor,
    heads: QuantParams,
    *,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    center: Center = "mean",
) -> Tensor:
    """The scores that `integer_attention` applies, in units of v: (B, H, Nq, Nk) float32, +inf outside J_i."""
    masks: dict[str, Any] = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask, "is_causal": is_causal}
    call = MaskedTensors(**check_masked(query, key, key, **masks, signed=True, center=center))
    check(call, heads)
    return specification.float_scores(call, heads)


def check(call: MaskedTensors, heads: QuantParams) -> None:
    """Raises ValueError where heads and tensors do not fit."""
    kv_heads, dim = heads.offset.shape
    made_for = (heads.sign.shape[0], kv_heads, dim)
    given = (call.query.shape[1], call.key.shape[1], call.query.shape[3])
    if made_for != given:
        raise ValueError(f"(query heads, key heads, features) are {given}, but the levels are made for {made_for}")
    most = MAX_SUM // heads.precision.value_top
    if call.key.shape[2] > most:
        raise ValueError(f"{heads.bits} bits allow {most} keys, got {call.key.shape[2]}")


def select(call: MaskedTensors, engine: str) -> ModuleType:
    """The engine for this call. Raises ValueError when the one asked for does not exist or cannot serve it."""
    if engine == "auto":
        return cpu if cpu.unavailable() is None and cpu.refuses(call) is None else specification
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {['auto', *ENGINES]}")
    if engine == "cpu" and (reason := cpu.unavailable() or cpu.refuses(call)):
        raise ValueError(f"engine {engine!r} cannot serve this call: {reason}")
    return ENGINES[engine]
