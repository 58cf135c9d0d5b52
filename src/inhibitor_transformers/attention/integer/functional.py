"""The public functions of integer attention: check at the border, choose an engine, run it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..call import Center, MaskedTensors
from ..checks import check_masked
from ..transforms import is_transformed, operation
from . import cpu, reference
from .qparams import MAX_SUM, QuantParams
from .requantize import Requantize

ENGINES: dict[str, ModuleType] = {"cpu": cpu, "reference": reference}


@operation
def integer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    qparams: QuantParams,
    *,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    signed: bool = True,
    center: Center = "mean",
    requantize: Requantize | None = None,
    engine: str = "auto",
) -> Tensor:
    """`inhibitor_attention` in integers (`reference.py`), bit-exact across all engines.

    Args:
        query, key, value, key_padding_mask, attn_mask, is_causal, signed, center: as in `inhibitor_attention`;
            tensors of any floating dtype, which are quantized first. A gradient is an error.
        qparams: how to quantize them; holds the scalars too.
        requantize: writes integers for the next layer instead of floats.
        engine: "auto", "cpu" (compiled) or "reference" (plain torch, any device).

    Returns:
        (B, H, Nq, Dv) float32, or uint8 with `requantize`.

    Raises:
        ValueError: wrong shapes, dtypes or devices, more keys than the sums can hold, `requantize` made for other
            `qparams`, or an engine that cannot serve.
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
    check(call, qparams)
    chosen = select(call, qparams, engine)
    if requantize is None:
        return without_gradient(chosen.run(call, qparams), query, key, value)
    if requantize.qparams is not qparams:
        raise ValueError("requantize was made for other QuantParams")
    return without_gradient(chosen.run_requantized(call, qparams, requantize), query, key, value)


@operation
def integer_scores(
    query: Tensor,
    key: Tensor,
    qparams: QuantParams,
    *,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    center: Center = "mean",
) -> Tensor:
    """The scores that `integer_attention` applies, in units of v: (B, H, Nq, Nk) float32, +inf outside J_i.

    Arguments and errors as there.
    """
    masks: dict[str, Any] = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask, "is_causal": is_causal}
    call = MaskedTensors(**check_masked(query, key, key, **masks, signed=True, center=center))
    check(call, qparams)
    return reference.float_scores(call, qparams)


def check(call: MaskedTensors, qparams: QuantParams) -> None:
    """Raises ValueError where parameters and tensors do not fit, and for what integers do not compute."""
    if call.center == "min":
        raise ValueError('integers subtract the mean of a row of scores or nothing: center="min" is not computed')
    made_for = (qparams.sign.shape[0], qparams.offset.shape[0], qparams.dim)
    given = (call.query.shape[1], call.key.shape[1], call.query.shape[3])
    if made_for != given:
        raise ValueError(f"(query heads, key heads, features) are {given}, but the QuantParams are for {made_for}")
    most = MAX_SUM // qparams.value_qmax
    if call.key.shape[2] > most:
        raise ValueError(f"{qparams.bits} bits allow {most} keys, got {call.key.shape[2]}")


def select(call: MaskedTensors, qparams: QuantParams, engine: str) -> ModuleType:
    """The engine for this call. Raises ValueError when the one asked for does not exist or cannot serve it."""
    if engine == "auto":
        return cpu if _reason_against(cpu, call, qparams) is None else reference
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {['auto', *ENGINES]}")
    if reason := _reason_against(ENGINES[engine], call, qparams):
        raise ValueError(f"engine {engine!r} cannot serve this call: {reason}")
    return ENGINES[engine]


def _reason_against(engine: ModuleType, call: MaskedTensors, qparams: QuantParams) -> str | None:
    if qparams.bits not in engine.SERVES:
        return f"it serves {list(engine.SERVES)} bits, not {qparams.bits}"
    if engine is reference:
        return None
    reason: str | None = engine.unavailable() or engine.refuses(call)
    return reason


def without_gradient(result: Tensor, *inputs: Tensor) -> Tensor:
    """`result`, which rounding has cut off from `inputs`; a derivative with respect to these is a RuntimeError.

    Raises ValueError where torch.jit.trace would record a graph that has lost it.
    """
    if is_transformed(*inputs) or (torch.is_grad_enabled() and any(t.requires_grad for t in inputs)):
        if torch.jit.is_tracing():
            raise ValueError("integers have no gradient, and a trace cannot say so: trace under torch.no_grad()")
        result = _WithoutGradient.apply(result.detach(), *inputs)
    return result


class _WithoutGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(result: Tensor, *inputs: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("integers have no gradient: train the model in floating point, then quantize it")

    jvp = backward
