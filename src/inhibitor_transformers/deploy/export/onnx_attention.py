"""Inhibitor attention in an ONNX graph: one node, and a function that says in standard operators what it computes.

A runtime that has a kernel for inhibitor::InhibitorAttention (csrc/runtimes) takes it; one that has none, and knows
functions of a model, takes the function; for the others it is written out in the graph (`write_functions_out`).

The function: a Scan over heads, and within it a Loop over blocks of query rows. Of all forms that were tried none is
faster in ONNX Runtime, and it holds 16 × N × D numbers at a time, never N × N × D and not even N × N
(docs/how-to/export.md). OpenVINO refuses a Scan that uses values from outside, and a Scan within a Scan; a Loop may do
both. Needs onnxscript.
"""

from __future__ import annotations

from typing import Any

import torch
from onnx import TensorProto, helper
from onnx_ir import Model, Node
from onnx_ir.passes.common import InlinePass
from onnxscript import BOOL, FLOAT, INT64, OnnxFunction, graph, script
from onnxscript import opset20 as op
from onnxscript.values import Opset
from torch import Tensor

from ...attention.call import ModelCenter
from .onnx_integer_attention import DOMAIN
from .onnx_integer_attention import functions as integer_functions

OPSET = 20  # the first with Gelu, which runtimes do not have to find in its parts


def onnx_operator(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor,
    gamma: Tensor,
    eta: Tensor,
    delta: Tensor,
    length_exponent: Tensor,
    score_bias: None,
    *,
    num_heads: int,
    length_reference: float,
    center: ModelCenter,
    is_signed: bool,
) -> Tensor:
    """The node, as `operator.Operator`: for the exporter alone, it computes nothing. The function takes no bias."""
    attributes: dict[str, Any] = {
        "num_heads": num_heads,
        "length_reference": float(length_reference),
        "center": center,
        "is_signed": int(is_signed),
    }
    inputs = [query, key, value, key_padding_mask, gamma, eta, delta, length_exponent]
    name = f"{DOMAIN}::InhibitorAttention"
    shape = (*query.shape[:2], value.shape[2])
    return torch.onnx.ops.symbolic(name, inputs, attributes, dtype=query.dtype, shape=shape, version=1)


def add_function(model: Model) -> None:
    """Give a model the functions of its attention nodes; their attributes are the same in all layers."""
    for node in model.graph:
        if node.domain == DOMAIN:
            for made in _functions(node):
                function = made.function_ir
                model.functions[function.identifier()] = function


def _functions(node: Node) -> list[OnnxFunction]:
    if node.op_type == "InhibitorAttention":
        center: Any = node.attributes["center"].as_string()
        return [_attention_function(center)]
    return integer_functions(node)


def write_functions_out(model: Model) -> None:
    """Put in place of each attention node what its function says; the standard operators alone are left."""
    InlinePass()(model)
    model.opset_imports.pop(DOMAIN, None)


def _attention_function(center: str) -> OnnxFunction:
    """What a node of `onnx_operator` computes. No standard operator looks at a string: `center` is known beforehand."""
    counted = 1.0 if center == "mean" else 0.0

    @script(Opset(DOMAIN, 1), default_opset=op)
    def InhibitorAttention(  # noqa: N802
        query: FLOAT[...],
        key: FLOAT[...],
        value: FLOAT[...],
        key_padding_mask: BOOL[...],
        gamma: FLOAT[...],
        eta: FLOAT[...],
        delta: FLOAT[...],
        length_exponent: FLOAT[...],
        num_heads: int,
        length_reference: float,
        center: str,
        is_signed: int,
    ) -> FLOAT[...]:
        split = op.Concat([0, 0], op.Reshape(op.Constant(value_int=num_heads), [1]), [-1], axis=0)
        members = op.Unsqueeze(key_padding_mask, [1, 2])  # (B, 1, 1, Nk)
        zero = op.Constant(value_float=0.0)
        q32, k32, v32 = (  # bfloat16 is computed in float32
            op.Cast(query, to=TensorProto.FLOAT),
            op.Cast(key, to=TensorProto.FLOAT),
            op.Cast(value, to=TensorProto.FLOAT),
        )
        queries = op.Transpose(op.Reshape(q32, split), perm=[0, 2, 1, 3])  # (B, H, Nq, D)
        keys = op.Where(members, op.Transpose(op.Reshape(k32, split), perm=[0, 2, 3, 1]), zero)  # (B, H, D, Nk)
        values = op.Where(members, op.Transpose(op.Reshape(v32, split), perm=[0, 2, 3, 1]), zero)
        signs = op.Where(op.Cast(op.Constant(value_int=is_signed), to=TensorProto.BOOL), op.Sign(values), 1.0)

        present = op.Cast(members, to=TensorProto.FLOAT)
        count = op.Max(op.ReduceSum(present, [3], keepdims=1), 1.0)  # (B, 1, 1, 1)
        shape = op.Shape(queries)
        per_head = op.Concat(shape[0:2], [1, 1], axis=0)
        slope = gamma / op.Sqrt(op.Cast(shape[3:4], to=TensorProto.FLOAT))
        weights = op.Expand(present / count * counted, per_head)  # of each key in the mean that is subtracted

        @graph()
        def of_head(
            q: FLOAT[...], k: FLOAT[...], v: FLOAT[...], sign: FLOAT[...], w: FLOAT[...], s: FLOAT[...], d: FLOAT[...]
        ) -> FLOAT[...]:
            size = op.Unsqueeze(sign * v, [1])  # (Dv, 1, Nk)
            columns = op.Unsqueeze(sign, [2])  # (Dv, Nk, 1)
            mean = op.Reshape(w, [-1, 1])  # (Nk, 1)
            length = op.Shape(q, start=0, end=1)
            padded = op.Pad(q, op.Concat([0, 0], op.Mod(-length, [16]), [0], axis=0))
            blocks = op.Reshape(padded, op.Concat([-1, 16], op.Shape(q, start=1, end=2), [1], axis=0))

            @graph()
            def of_rows(block: INT64, go_on: BOOL):  # type: ignore[no-untyped-def]
                rows = op.Gather(blocks, block, axis=0)  # (16, D, 1)
                distance = op.ReduceSum(op.Abs(rows - k), [1], keepdims=0)  # (16, Nk)
                z = op.Relu((distance - op.MatMul(distance, mean)) * s + d)
                shrunk = op.MatMul(op.Relu(size - z), columns)  # (Dv, 16, 1)
                still = op.Identity(go_on)
                return still, shrunk

            number = op.Squeeze(op.Shape(blocks, start=0, end=1), [0])
            always = op.Constant(value=helper.make_tensor("always", TensorProto.BOOL, [], [True]))
            sums = op.Loop(number, always, body=of_rows)  # (blocks, Dv, 16, 1)
            features = op.Shape(v, start=0, end=1)
            # Reshaped, not squeezed: ONNX's evaluator joins the outputs of a Loop to (blocks · Dv, 16, 1).
            by_row = op.Transpose(op.Reshape(sums, op.Concat([-1], features, [16], axis=0)), perm=[0, 2, 1])
            return op.Slice(op.Reshape(by_row, op.Concat([-1], features, axis=0)), [0], length, [0])

        sums = op.Scan(
            op.Reshape(queries, op.Concat([-1], op.Shape(queries, start=2), axis=0)),
            op.Reshape(keys, op.Concat([-1], op.Shape(keys, start=2), axis=0)),
            op.Reshape(values, op.Concat([-1], op.Shape(values, start=2), axis=0)),
            op.Reshape(signs, op.Concat([-1], op.Shape(values, start=2), axis=0)),
            op.Reshape(weights, op.Concat([-1], op.Shape(keys, start=3), axis=0)),
            op.Reshape(op.Expand(op.Reshape(slope, [-1, 1, 1]), per_head), [-1]),
            op.Reshape(op.Expand(op.Reshape(delta, [-1, 1, 1]), per_head), [-1]),
            body=of_head,
            num_scan_inputs=7,
        )
        of_heads = op.Reshape(sums, op.Concat(shape[0:2], op.Shape(sums, start=1), axis=0))  # (B, H, Nq, Dv)
        length = op.Pow(op.Constant(value_float=length_reference) / count, op.Reshape(length_exponent, [-1, 1, 1]))
        output = of_heads * (op.Reshape(eta, [-1, 1, 1]) * length)
        return op.CastLike(op.Reshape(op.Transpose(output, perm=[0, 2, 1, 3]), [0, 0, -1]), query)

    return InhibitorAttention
