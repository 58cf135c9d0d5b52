"""Inhibitor attention as the one operator that runtimes offer (csrc/runtimes), in place of the engines of a model."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...models.architectures import AttentionLayer
from ...models.inhibidistilbert import InhibiDistilBertPreTrainedModel
from ...models.value_center import center_values
from .plain import TracedAttention, with_attention

# (query, key, value, key_padding_mask, gamma, eta, delta, length_exponent, score_bias, and the attributes by name):
# (B, N, H·D) of such, a (B, N) bool mask, (H,) scalars.
Operator = Callable[..., Tensor]


class OperatorAttention(TracedAttention):
    """A call of `operator`, on the projections as they are: nothing is transposed."""

    def __init__(self, original: AttentionLayer, operator: Operator) -> None:
        super().__init__(original)
        self.operator = operator

    def attend(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor) -> Tensor:
        if self.config.inhibitor_value_center == "none":
            return self._call(query, key, value, valid)
        # A mean over the keys does not ask which features are of one head.
        shrunk = center_values(value.unsqueeze(1), valid, self.config.inhibitor_value_center)
        output = self._call(query, key, shrunk.values.squeeze(1), valid)
        return shrunk.restore(output.unsqueeze(1)).squeeze(1)

    def _call(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor) -> Tensor:
        config, scalars = self.config, self.inhibitor
        return self.operator(
            query,
            key,
            value,
            valid,
            scalars.gamma,
            scalars.eta,
            scalars.delta,
            scalars.length_exponent,
            None,
            num_heads=config.n_heads,
            length_reference=scalars.length_reference,
            center=config.inhibitor_center,
            is_signed=config.inhibitor_signed,
        )


def with_operator(model: InhibiDistilBertPreTrainedModel, operator: Operator) -> InhibiDistilBertPreTrainedModel:
    """A copy of `model`, which is not quantized, with `OperatorAttention`."""
    return with_attention(model, lambda layer: OperatorAttention(layer, operator))
