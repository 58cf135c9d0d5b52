"""A quantized model's operators for tracing: ONNX's integer linear layers, and integer attention in bytes.

Where linear layers are quantized and attention has at most 8 bits, a layer is

    x → quantize → one product for q, k, v → quantize → QLinearInhibitorAttention → dequantize → product → …

with nothing but bytes between the products and attention. Otherwise attention reads and gives float32
(IntegerInhibitorAttention). To be traced only: called, these operators compute nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import get_activation

from ...attention.integer import QuantizedScalars, QuantParams, Requantize
from ...models.architectures import AttentionLayer, attention_layers, transformer_layers
from ...models.inhibidistilbert import InhibiDistilBertPreTrainedModel
from ...models.quantized import Int8Linear
from ...models.quantized.modules import replace
from ...models.value_center import center_values

_VALUE_ZERO_POINT = 128


def quantize_linear(x: Tensor, zero_point: Tensor) -> Tensor:
    """ONNX's QuantizeLinear of float32, to the zero point's type, with step 1.

    Other steps are factors before it: OpenVINO compiles steps per feature behind a product alone
    (findings/openvino-quantize-per-feature.sh).
    """
    return _node("QuantizeLinear", (x, torch.ones(()), zero_point), {}, zero_point.dtype, x.shape)


def dequantize_linear(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """ONNX's DequantizeLinear, to float32."""
    attributes = {"axis": x.dim() - 1} if scale.dim() else {}
    return _node("DequantizeLinear", (x, scale, zero_point), attributes, torch.float32, x.shape)


def _node(
    name: str, inputs: Sequence[Tensor | None], attributes: dict[str, Any], dtype: torch.dtype, shape: Sequence[int]
) -> Tensor:
    version = 1 if "::" in name else None
    out: Tensor = torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=shape, version=version)
    return out


class ByteInput(nn.Module):
    """The quantized input of `Int8Linear`s that read the same tensor.

    Weights have taken over the steps of their inputs: a byte less its zero point stands for itself.
    """

    inverse_step: Tensor
    zero_point: Tensor

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        inverse = 1.0 / layer.input_step
        self.register_buffer("inverse_step", inverse[0].clone() if bool((inverse == inverse[0]).all()) else inverse)
        self.register_buffer("zero_point", layer.input_zero_point.to(torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """(…, features) float32 to what a product reads: bytes, dequantized again."""
        return self.read(quantize_linear(x * self.inverse_step, self.zero_point))

    def read(self, x: Tensor) -> Tensor:
        """The same of bytes that are there already."""
        return dequantize_linear(x, torch.ones(()), self.zero_point)


class ByteProduct(nn.Module):
    """x·W + b with 8-bit weights, of an input that `ByteInput` gives."""

    weight: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.t().contiguous())  # (in, out), as ONNX's MatMul takes it
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.zeros(scale.shape, dtype=torch.int8))
        self.register_buffer("bias", bias)

    @classmethod
    def of(cls, layer: Int8Linear) -> ByteProduct:
        return cls(layer.weight, layer.weight_scale, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features), float32."""
        y = x @ dequantize_linear(self.weight, self.scale, self.zero_point)
        return y if self.bias is None else y + self.bias


class ByteLinear(nn.Module):
    """An `Int8Linear` in ONNX's operators."""

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        self.input, self.product = ByteInput(layer), ByteProduct.of(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features), float32."""
        return self.product(self.input(x))


class ByteFeedForward(nn.Module):
    """An `Int8FeedForward` in ONNX's operators."""

    def __init__(self, ffn: Any, activation: nn.Module) -> None:
        super().__init__()
        self.lin1, self.activation, self.lin2 = ByteLinear(ffn.lin1), activation, ByteLinear(ffn.lin2)

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) to (…, dim), float32."""
        return self.lin2(self.activation(self.lin1(x)))


class IntegerOperator(nn.Module):
    """What both forms of integer attention have in common: the parameters of scores and the attributes."""

    sign: Tensor
    delta: Tensor
    shift: Tensor

    def __init__(self, layer: AttentionLayer) -> None:
        super().__init__()
        self.config = config = layer.module.config
        self.qparams = _qparams(layer)
        self.attributes = {
            "num_heads": config.n_heads,
            "bits": self.qparams.bits,
            "center": config.inhibitor_center,
            "is_signed": int(config.inhibitor_signed),
        }
        for name in ("sign", "delta", "shift"):
            self.register_buffer(name, getattr(self.qparams, name).clone())

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.sign, self.delta, self.shift

    @property
    def longest(self) -> int:
        """Keys for which a table of lengths has columns."""
        return int(self.config.max_position_embeddings)


class ByteAttention(IntegerOperator):
    """The self-attention of a layer in bytes, from its quantized input to the output projection's.

    Raises ValueError where the projections do not read the same bytes, or the features of a head not with one step.
    """

    multiplier: Tensor
    output_shift: Tensor
    zero_point: Tensor

    def __init__(self, layer: AttentionLayer) -> None:
        super().__init__(layer)
        query, key, value, out = cast(list[Int8Linear], [layer.query, layer.key, layer.value, layer.output])
        if not (_read_alike(query, key) and _read_alike(query, value)):
            raise ValueError(f"{layer.name}: q, k and v read different bytes: quantize the model anew")
        self.input, self.product = ByteInput(query), _fused_product(query, key, value, self.qparams)
        self.output_input, self.output = ByteInput(out), ByteProduct.of(out)
        step, zero_point = _step_of_heads(layer.name, out, self.config.n_heads), int(out.input_zero_point)
        output = Requantize(self.qparams, step, zero_point)
        self.register_buffer("multiplier", output.multipliers(self.longest).contiguous())
        self.register_buffer("output_shift", output.shift)
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.uint8))
        self.attributes |= {
            "head_size": self.qparams.offset.shape[1],
            "value_zero_point": _VALUE_ZERO_POINT,
            "output_zero_point": zero_point,
        }

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        """As DistilBERT's self-attention: (B, N, dim) for hidden states (B, N, dim) and a (B, N) bool mask."""
        levels = quantize_linear(self.product(self.input(hidden_states)), self.zero_point)
        inputs = (levels, None, None, attention_mask, *self.scores(), self.multiplier, self.output_shift)
        name = "inhibitor::QLinearInhibitorAttention"
        output = _node(name, inputs, self.attributes, torch.uint8, hidden_states.shape)
        return self.output(self.output_input.read(output)), None


class FloatIntegerAttention(IntegerOperator):
    """The self-attention of a layer with integers inside, between projections of any kind."""

    offset: Tensor
    source: Tensor
    inverse_step: Tensor
    value_inverse_step: Tensor
    factors: Tensor

    def __init__(self, layer: AttentionLayer) -> None:
        super().__init__(layer)
        self.q_lin, self.k_lin, self.v_lin, self.out_lin = map(
            _exported_linear, (layer.query, layer.key, layer.value, layer.output)
        )
        for name in ("offset", "source", "inverse_step", "value_inverse_step"):
            self.register_buffer(name, getattr(self.qparams, name).clone())
        self.register_buffer("factors", self.qparams.factors(self.longest).contiguous())

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        """As DistilBERT's self-attention: (B, N, dim) for hidden states (B, N, dim) and a (B, N) bool mask."""
        q, k, v = (of(hidden_states) for of in (self.q_lin, self.k_lin, self.v_lin))
        # The mean of a feature does not care whose head it belongs to.
        shrunk = center_values(v.unsqueeze(1), attention_mask, self.config.inhibitor_value_center)
        quantization = (self.offset, self.source, self.inverse_step, self.value_inverse_step)
        inputs = (q, k, shrunk.values.squeeze(1), attention_mask, *quantization, *self.scores(), self.factors)
        name = "inhibitor::IntegerInhibitorAttention"
        output = _node(name, inputs, self.attributes, torch.float32, hidden_states.shape)
        return self.out_lin(shrunk.restore(output.unsqueeze(1)).squeeze(1)), None


def is_quantized(model: PreTrainedModel) -> bool:
    """Whether a model computes in integers."""
    return any(isinstance(layer.scalars, QuantizedScalars) for layer in attention_layers(model))


def with_integer_operators(model: InhibiDistilBertPreTrainedModel) -> InhibiDistilBertPreTrainedModel:
    """A copy of a quantized `model` with the layers above. Raises ValueError for one that they cannot express."""
    copied = copy.deepcopy(model)
    for layer in attention_layers(copied):
        in_bytes = isinstance(layer.query, Int8Linear) and _qparams(layer).bits <= 8
        in_bytes &= layer.module.config.inhibitor_value_center == "none"
        replace(copied, layer.name, ByteAttention(layer) if in_bytes else FloatIntegerAttention(layer))
    for name, block in transformer_layers(copied):
        if isinstance(block.ffn.lin1, Int8Linear):
            replace(copied, f"{name}.ffn", ByteFeedForward(block.ffn, get_activation(model.config.activation)))
    return copied


def _qparams(layer: AttentionLayer) -> QuantParams:
    return cast(QuantizedScalars, layer.scalars).qparams


def _exported_linear(layer: nn.Module) -> nn.Module:
    return ByteLinear(layer) if isinstance(layer, Int8Linear) else layer


def _read_alike(a: Int8Linear, b: Int8Linear) -> bool:
    return torch.equal(a.input_step, b.input_step) and torch.equal(a.input_zero_point, b.input_zero_point)


def _step_of_heads(name: str, output: Int8Linear, heads: int) -> Tensor:
    """(H,): the step of what the output projection of attention `name` reads of each head."""
    steps = output.input_step.unflatten(0, (heads, -1))
    if not bool((steps == steps[:, :1]).all()):
        raise ValueError(f"{name}: the features of a head are read with different steps: quantize the model anew")
    return steps[:, 0].contiguous()


def _fused_product(query: Int8Linear, key: Int8Linear, value: Int8Linear, qparams: QuantParams) -> ByteProduct:
    """One product whose rounded outputs are the bytes of q and k, a row for each feature after splitting, and of v."""
    heads, features = qparams.offset.shape
    own = torch.arange(qparams.dim).expand(heads, -1)
    within = torch.cat([own, qparams.source.long()], 1)  # (H, F): the feature that each one repeats
    split = (within + torch.arange(heads)[:, None] * qparams.dim).flatten()
    to_levels = qparams.inverse_step.repeat_interleave(features)
    zero = -qparams.offset.flatten() * to_levels
    of_values = qparams.value_inverse_step.repeat_interleave(value.out_features // heads)
    zero_values = torch.full_like(of_values, _VALUE_ZERO_POINT)
    parts = (
        _rows(query, split, to_levels, zero),
        _rows(key, split, to_levels, zero),
        _rows(value, torch.arange(value.out_features), of_values, zero_values),
    )
    return ByteProduct(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _rows(layer: Int8Linear, rows: Tensor, factor: Tensor, zero: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, scales and biases of some outputs times `factor` plus `zero`."""
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return layer.weight[rows], layer.weight_scale[rows] * factor, bias[rows] * factor + zero
