"""The learnable scalars of inhibitor attention, one of each per head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_length_reference
from .direct import attend_directly
from .functional import inhibition_scores, inhibitor_attention

# The paper's initial values (arXiv 2503.15983, §3); ρ = 0 is its formula.
INITIAL = {"gamma": 1.0, "eta": 1.0, "delta": 0.5, "length_exponent": 0.0}
_SCORE_OPTIONS = ("gamma", "delta", "key_norm", "key_padding_mask", "attn_mask", "score_bias", "is_causal", "center")


class InhibitorScalars(nn.Module):
    """Inhibitor attention with γ, η, δ and ρ per head as float32 parameters, each of shape (heads,).

    They stay float32 under autocast (nothing here is autocast) and have no sign gates: gradients flow
    for any value. Give them their own learning rate: at fine-tuning rates they do not move.

    Args:
        heads: number of query heads.
        gamma, eta, delta, length_exponent: initial value of every head.
        length_reference: n₀, in keys; fixed, not learned.
    """

    gamma: nn.Parameter
    eta: nn.Parameter
    delta: nn.Parameter
    length_exponent: nn.Parameter

    def __init__(
        self,
        heads: int,
        *,
        gamma: float = INITIAL["gamma"],
        eta: float = INITIAL["eta"],
        delta: float = INITIAL["delta"],
        length_exponent: float = INITIAL["length_exponent"],
        length_reference: float = 64.0,
    ) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads must be at least 1, got {heads}")
        check_length_reference(length_reference)
        self.initial = {"gamma": gamma, "eta": eta, "delta": delta, "length_exponent": length_exponent}
        self.length_reference = length_reference
        for name in self.initial:
            setattr(self, name, nn.Parameter(torch.empty(heads, dtype=torch.float32)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set every head to the initial values."""
        for name, value in self.initial.items():
            nn.init.constant_(getattr(self, name), value)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_scores: bool = False, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """`inhibitor_attention` with these scalars, and `inhibition_scores` if they are needed (else None).

        Read here and nowhere else in a model, so that libraries may replace the module or move its parameters for the
        time of a call.

        Args:
            query, key, value: (B, H, N, D), as there.
            options: further arguments of `inhibitor_attention`.
        """
        scalars = self.as_arguments()
        output = attend_directly(query, key, value, scalars, options)
        if output is None:
            output = inhibitor_attention(query, key, value, **scalars, **options)
        if not need_scores:
            return output, None
        given = scalars | options
        return output, inhibition_scores(query, key, **{name: given[name] for name in _SCORE_OPTIONS if name in given})

    def as_arguments(self) -> dict[str, Any]:
        """The scalars as keyword arguments of `inhibitor_attention`."""
        scalars: dict[str, Any] = {"length_reference": self.length_reference}
        own = self._parameters
        for name in self.initial:  # an attribute where a parametrization, or a replica of the module, keeps it
            scalars[name] = own[name] if own.get(name) is not None else getattr(self, name)
        return scalars

    def extra_repr(self) -> str:
        return f"heads={self.gamma.shape[0]}, length_reference={self.length_reference:g}"
