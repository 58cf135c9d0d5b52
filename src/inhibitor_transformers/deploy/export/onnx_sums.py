"""The sums of plain attention as ONNX: a Scan over heads, and within it one over blocks of query rows.

Of all forms that were tried this is the fastest in ONNX Runtime, and it holds 16 × N × D numbers at a time, never
N × N × D and not even N × N (docs/how-to/export.md). torch.export cannot count blocks of a length that it does not
know, so it sees one opaque operator, which the ONNX exporter replaces by the function below. Needs onnxscript.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import BOOL, FLOAT, graph, script
from onnxscript import opset18 as op
from onnxscript.values import Opset
from torch import Tensor, library

from .torch_sums import torch_sums

OPSET = 18

# The operator that tracing leaves in the graph; called, it computes what the function below says.
onnx_sums = library.custom_op("inhibitor::onnx_sums", torch_sums, mutates_args=())


@onnx_sums.register_fake
def _(query: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(query)


@script(Opset("inhibitor", 1), default_opset=op)
def inhibitor_sums(
    query: FLOAT[...],
    key: FLOAT[...],
    value: FLOAT[...],
    valid: BOOL[...],
    share: FLOAT[...],
    slope: FLOAT[...],
    shift: FLOAT[...],
    signed: BOOL,
) -> FLOAT[...]:
    """As `plain.ShrunkenSums`; B·H heads of (N, D)."""
    shape = op.Shape(query)
    batch_and_heads = shape[0:2]
    heads = shape[0:1] * shape[1:2]
    length = shape[2:3]
    rows = op.Concat(heads, shape[2:4], axis=0)
    mask_shape = op.Concat(batch_and_heads, length, axis=0)
    mask_rows = op.Concat(heads, length, axis=0)

    @graph()
    def of_head(
        q: FLOAT[...], k: FLOAT[...], v: FLOAT[...], mask: BOOL[...], w: FLOAT[...], s: FLOAT[...], d: FLOAT[...]
    ) -> FLOAT[...]:
        zero = op.Constant(value_float=0.0)
        members = op.Unsqueeze(mask, [1])
        keys = op.Transpose(op.Where(members, k, zero), perm=[1, 0])  # (D, N)
        values = op.Transpose(op.Where(members, v, zero), perm=[1, 0])
        sign = op.Where(signed, op.Sign(values), op.Constant(value_float=1.0))
        size = op.Unsqueeze(sign * values, [1])  # (D, 1, N)
        columns = op.Unsqueeze(sign, [2])  # (D, N, 1)
        weights = op.Unsqueeze(w, [1])
        size_of_head = op.Shape(q)
        missing = op.Mod(-size_of_head[0:1], [16])
        padded = op.Pad(q, op.Concat([0, 0], missing, [0], axis=0))
        blocks = op.Unsqueeze(op.Reshape(padded, op.Concat([-1, 16], size_of_head[1:2], axis=0)), [3])

        @graph()
        def of_rows(block: FLOAT[...]) -> FLOAT[...]:
            distance = op.ReduceSum(op.Abs(block - keys), [1], keepdims=0)  # (16, N)
            z = op.Relu((distance - op.MatMul(distance, weights)) * s + d)
            return op.Squeeze(op.MatMul(op.Relu(size - z), columns), [2])  # (D, 16)

        sums = op.Scan(blocks, body=of_rows, num_scan_inputs=1)
        by_row = op.Reshape(op.Transpose(sums, perm=[0, 2, 1]), op.Concat([-1], size_of_head[1:2], axis=0))
        return op.Slice(by_row, [0], size_of_head[0:1], [0])

    sums = op.Scan(
        op.Reshape(query, rows),
        op.Reshape(key, rows),
        op.Reshape(value, rows),
        op.Reshape(op.Expand(op.Unsqueeze(valid, [1]), mask_shape), mask_rows),
        op.Reshape(op.Expand(op.Unsqueeze(share, [1]), mask_shape), mask_rows),
        op.Reshape(op.Expand(slope, batch_and_heads), heads),
        op.Reshape(op.Expand(shift, batch_and_heads), heads),
        body=of_head,
        num_scan_inputs=7,
    )
    return op.Reshape(sums, shape)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.inhibitor.onnx_sums.default: inhibitor_sums}
