"""Inputs of the two integer operators, what the integer reference makes of them, and graphs of one such node."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from inhibitor_transformers.attention.integer import QuantParams, Requantize, integer_attention
from inhibitor_transformers.attention.integer.quantize import quantize_features, quantize_values
from tests.attention.engine_cases import Shape
from tests.attention.integer.cases import random_qparams, tensors
from tests.deploy.runtimes.cases import flat

VALUE_ZERO_POINT, OUTPUT_ZERO_POINT = 128, 77
SHAPES = [
    Shape(1, 1, 1, 1, 1, 1, 1),
    Shape(3, 4, 4, 33, 37, 7, 5),
    Shape(2, 2, 2, 40, 66, 64, 64),
]
INTEGER_NAMES = (
    *("query", "key", "value", "key_padding_mask", "offset", "source", "inverse_step", "value_inverse_step"),
    *("sign", "delta", "shift", "factors"),
)
QLINEAR_NAMES = (
    *("query", "key", "value", "key_padding_mask", "sign", "delta", "shift", "multiplier", "output_shift"),
)


class IntegerCase(NamedTuple):
    """A node: its type, inputs in their order and by name, attributes, and the reference's output."""

    operator: str
    inputs: dict[str, Tensor | None]
    attributes: dict[str, Any]
    expected: Tensor


class Options(NamedTuple):
    bits: int = 8
    is_signed: bool = True
    center: str = "mean"
    is_causal: bool = False
    extra: int = 0


OPTIONS = [
    Options(),
    Options(3, is_signed=False, center="none"),
    Options(4, center="none", extra=2),
    Options(5, is_causal=True),
    Options(6, is_signed=False, extra=1),
]


def integer_case(shape: Shape, options: Options, *, masked: bool) -> IntegerCase:
    """`IntegerInhibitorAttention`: floats, among them NaN and infinity."""
    qkv, qparams, mask = _drawn(shape, options, masked)
    found = _reference(qkv, qparams, options, mask)
    inputs: dict[str, Tensor | None] = dict(zip(INTEGER_NAMES, map(flat, qkv), strict=False))
    inputs |= {"key_padding_mask": mask} | {name: getattr(qparams, name) for name in INTEGER_NAMES[4:11]}
    inputs["factors"] = qparams.factors(shape.keys + 3).contiguous()
    return IntegerCase("IntegerInhibitorAttention", inputs, _attributes(shape, options), flat(found))


def qlinear_case(shape: Shape, options: Options, *, masked: bool, packed: bool = False) -> IntegerCase:
    """`QLinearInhibitorAttention`, of the integers that the reference makes of the same floats."""
    qkv, qparams, mask = _drawn(shape, options, masked)
    output = Requantize(qparams, torch.rand(shape.heads) + 0.01, OUTPUT_ZERO_POINT)
    found = _reference(qkv, qparams, options, mask, requantize=output)
    query, key, value = qkv
    levels = [
        flat(quantize_features(query, qparams).to(torch.uint8)),
        flat(quantize_features(key, qparams).to(torch.uint8)),
        flat((quantize_values(value, qparams) + VALUE_ZERO_POINT).to(torch.uint8)),
    ]
    inputs: dict[str, Tensor | None] = dict(zip(("query", "key", "value"), levels, strict=True))
    attributes = _attributes(shape, options)
    if packed:
        inputs = {"query": torch.cat(levels, 2), "key": None, "value": None}
        attributes["head_size"] = shape.dim + options.extra
    inputs |= {"key_padding_mask": mask} | {name: getattr(qparams, name) for name in ("sign", "delta", "shift")}
    inputs["multiplier"] = output.multipliers(shape.keys + 2).contiguous()
    inputs["output_shift"] = output.shift
    attributes |= {"value_zero_point": VALUE_ZERO_POINT, "output_zero_point": OUTPUT_ZERO_POINT}
    return IntegerCase("QLinearInhibitorAttention", inputs, attributes, flat(found))


def _drawn(shape: Shape, options: Options, masked: bool) -> tuple[tuple[Tensor, ...], QuantParams, Tensor | None]:
    mask = torch.rand(shape.batch, shape.keys) < 0.7
    mask[0] = False  # a sequence that is padding alone
    return (
        tensors(shape),
        random_qparams(shape, options.bits, seed=shape.keys, extra=options.extra),
        mask if masked else None,
    )


def _reference(
    qkv: tuple[Tensor, ...], qparams: QuantParams, options: Options, mask: Tensor | None, **others: Any
) -> Tensor:
    masks: dict[str, Any] = {"key_padding_mask": mask, "is_causal": options.is_causal}
    settings: dict[str, Any] = {"signed": options.is_signed, "center": options.center}
    return integer_attention(*qkv, qparams, **masks, **settings, **others, engine="reference")


def _attributes(shape: Shape, options: Options) -> dict[str, Any]:
    named = {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads}
    return named | options._asdict() | {"is_signed": int(options.is_signed), "is_causal": int(options.is_causal)}


def graph(case: IntegerCase) -> bytes:
    """ONNX of that node; what is no query, key, value or mask is a constant. Shapes are not known beforehand."""
    from onnx import TensorProto, helper, numpy_helper

    types = {torch.float32: TensorProto.FLOAT, torch.uint8: TensorProto.UINT8, torch.bool: TensorProto.BOOL}
    constants = {name: t for name, t in case.inputs.items() if t is not None and name not in QLINEAR_NAMES[:4]}
    attributes = {name: value for name, value in case.attributes.items() if name != "extra"}
    names = [name if t is not None else "" for name, t in case.inputs.items()]
    node = helper.make_node(case.operator, names, ["output"], domain="inhibitor", **attributes)
    inputs = [helper.make_tensor_value_info(n, types[t.dtype], [None] * t.dim()) for n, t in tensors_of(case).items()]
    output = helper.make_tensor_value_info("output", types[case.expected.dtype], [None] * 3)
    stored = [numpy_helper.from_array(t.numpy(), name) for name, t in constants.items()]
    made = helper.make_graph([node], "attention", inputs, [output], stored)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("inhibitor", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()


def tensors_of(case: IntegerCase) -> dict[str, Tensor]:
    """What is given to each run."""
    return {name: t for name in QLINEAR_NAMES[:4] if (t := case.inputs[name]) is not None}
