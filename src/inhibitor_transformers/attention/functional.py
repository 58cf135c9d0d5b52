"""The public functions: check at the border, choose an engine, run it."""

from __future__ import annotations

from torch import Tensor

from . import dispatch, reference
from .call import Center, Scalar, drop_keys
from .checks import make_call
from .transforms import operation


@operation
def inhibitor_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    gamma: Scalar = 1.0,
    eta: Scalar = 1.0,
    delta: Scalar = 0.0,
    length_exponent: Scalar = 0.0,
    length_reference: float = 64,
    key_norm: Scalar | None = None,
    unit: Scalar | None = None,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    is_causal: bool = False,
    signed: bool = True,
    center: Center = "mean",
    dropout_p: float = 0.0,
    engine: str = "auto",
) -> Tensor:
    r"""Inhibitor attention (arXiv 2503.15983, eqs. 3–6) with a length exponent.

    .. math::
        Z_{ij} &= \mathrm{relu}(S_{ij} - \mathrm{mean}_{j \in J_i} S_{ij} + δ),\quad
        S_{ij} = \tfrac{γ}{\sqrt D} \sum_d |q_{id} - k_{jd}| + β_{ij} \\
        H_{ik} &= η (n_0 / n_i)^ρ \sum_{j \in J_i} \mathrm{softshrink}(v_{jk}, Z_{ij})

    where J_i are the n_i keys valid for query i. A key outside J_i contributes nothing, whatever it and its
    β hold (NaN included); a query without valid keys gives 0 with zero gradients.

    Two more scalars, which the paper has not, let it replace a softmax: λ takes a part of each key's size off its
    scores (a distance grows with the size of a key, a product does not), and u divides by how many keys pass:

    .. math::
        S_{ij} &= \tfrac{γ}{\sqrt D} (\sum_d |q_{id} - k_{jd}| - λ \sum_d |k_{jd}|) + β_{ij} \\
        H_{ik} &= η (n_0 / n_i)^ρ \frac{\sum_{j \in J_i} \mathrm{softshrink}(v_{jk}, Z_{ij})}
            {\max(\sum_{j \in J_i} \mathrm{relu}(1 - Z_{ij} / |u|), 0.1)}

    Args:
        query: (B, H, Nq, D), any floating dtype; float64 is computed in float64, the rest in float32.
        key: (B, Hkv, Nk, D), H a multiple of Hkv (grouped-query attention).
        value: (B, Hkv, Nk, Dv).
        gamma, eta, delta, length_exponent: γ, η, δ, ρ: a number or a tensor of shape (H,).
        length_reference: n₀, the number of keys at which (n₀/n)^ρ is one.
        key_padding_mask: (B, Nk) bool, True = valid.
        attn_mask: bool, broadcastable to (B, H, Nq, Nk), True = valid.
        key_norm: λ, a number or (H,). None: 0.
        unit: u, a number or (H,), not 0: a key counts for less the larger its score, from |u| on for nothing. None:
            sums are not divided.
        score_bias: β, (H or 1, Nq, Nk), the same for the whole batch, in the dtype of the query or of the computation:
            what relative positions add to the scores. Larger inhibits more. None: zero.
        is_causal: the queries are the last Nq of Nk positions; each sees the keys up to its own.
        signed: softshrink(v, z) = sign(v)·max(|v| − z, 0); otherwise max(v − z, 0).
        center: "mean" subtracts the mean score over the valid keys, "min" the least, "none" neither.
        dropout_p: probability of dropping a key, per sequence and head, rescaled by 1/(1 − p).
        engine: "auto" takes the fastest that can serve the call (the environment variable INHIBITOR_ENGINE names one
            to try first); a name demands that one.

    Returns:
        (B, H, Nq, Dv), dtype and device of the query.

    Raises:
        ValueError: an argument of the wrong rank, shape, dtype or device, or an engine that cannot serve.
    """
    call = make_call(
        query,
        key,
        value,
        gamma=gamma,
        eta=eta,
        delta=delta,
        length_exponent=length_exponent,
        length_reference=length_reference,
        key_norm=key_norm,
        unit=unit,
        key_padding_mask=key_padding_mask,
        attn_mask=attn_mask,
        score_bias=score_bias,
        is_causal=is_causal,
        signed=signed,
        center=center,
    )
    return dispatch.select(call, engine).run(drop_keys(call, dropout_p))


@operation
def inhibition_scores(
    query: Tensor,
    key: Tensor,
    *,
    gamma: Scalar = 1.0,
    delta: Scalar = 0.0,
    key_norm: Scalar | None = None,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    is_causal: bool = False,
    center: Center = "mean",
) -> Tensor:
    """The inhibition scores Z that `inhibitor_attention` applies to the values.

    Arguments as there. Returns (B, H, Nq, Nk) in the dtype of the query: 0 where a value passes fully,
    +inf where the key is not valid for the query. Raises ValueError as there.
    """
    call = make_call(
        query,
        key,
        key,
        gamma=gamma,
        eta=1.0,
        delta=delta,
        length_exponent=0.0,
        length_reference=64,
        key_norm=key_norm,
        key_padding_mask=key_padding_mask,
        attn_mask=attn_mask,
        score_bias=score_bias,
        is_causal=is_causal,
        signed=True,
        center=center,
    )
    return reference.run_scores(call)
