"""Integer inhibitor attention in standard ONNX operators: what runtimes compute that have no kernels for its nodes.

Every step is exact (attention/integer/reference.py): sums of integers that float32 or, with 16 bits, float64 holds, and
64 bits for what is requantized. That is so in ONNX Runtime: OpenVINO computes integers and float64 in float32. The form
is that of `onnx_attention`. Needs onnxscript.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from onnx import TensorProto, helper
from onnx_ir import Node
from onnxscript import BOOL, FLOAT, INT32, INT64, UINT8, OnnxFunction, graph, script
from onnxscript import opset20 as op
from onnxscript.values import Opset

from ...attention.call import ModelCenter

DOMAIN = "inhibitor"


class Settings(NamedTuple):
    """What a function knows beforehand: standard operators do not look at strings, and types are not computed."""

    center: ModelCenter
    is_signed: bool
    bits: int

    @classmethod
    def of(cls, node: Node) -> Settings:
        attributes = node.attributes
        center: Any = attributes["center"].as_string()
        return cls(center, bool(attributes["is_signed"].as_int()), attributes["bits"].as_int())


def functions(node: Node) -> list[OnnxFunction]:
    """The function of a node and those that it calls; [] for a node of another kind."""
    made = {"IntegerInhibitorAttention": _from_floats, "QLinearInhibitorAttention": _from_bytes}.get(node.op_type)
    if made is None:
        return []
    sums = _integer_sums(Settings.of(node))
    return [sums, made(sums, Settings.of(node))]


def _integer_sums(settings: Settings) -> OnnxFunction:
    """A (B, H, Nq, Dv) in float64, of quantized q (B, H, Nq, F), k (B, H, F, Nk) and v (B, H, Dv, Nk)."""
    exact = TensorProto.FLOAT if settings.bits <= 8 else TensorProto.DOUBLE
    value_qmax = float(2 ** (settings.bits - 1) - 1)
    counted = 1.0 if settings.center == "mean" else 0.0
    signed = settings.is_signed

    @script(Opset(DOMAIN, 1), default_opset=op)
    def IntegerSums(  # type: ignore[no-untyped-def]  # noqa: N802
        query, key, value, key_padding_mask: BOOL[...], sign: INT32[...], delta: INT32[...], shift: INT32[...]
    ):
        members = op.Unsqueeze(key_padding_mask, [1, 2])  # (B, 1, 1, Nk)
        zero = op.Cast(0.0, to=exact)
        half, nothing = op.Cast(0.5, to=TensorProto.DOUBLE), op.Cast(0.0, to=TensorProto.DOUBLE)
        one, most = op.Cast(1.0, to=TensorProto.DOUBLE), op.Cast(value_qmax, to=TensorProto.DOUBLE)
        centered = op.Cast(counted, to=TensorProto.DOUBLE)
        queries = op.Cast(query, to=exact)
        keys = op.Where(members, op.Cast(key, to=exact), zero)
        values = op.Where(members, op.Cast(value, to=exact), zero)
        signs = op.Where(op.Cast(signed, to=TensorProto.BOOL), op.Sign(values), op.Cast(1.0, to=exact))
        shape = op.Shape(queries)
        per_head = op.Concat(shape[0:2], [1, 1], axis=0)
        present = op.Expand(op.Cast(members, to=TensorProto.DOUBLE), per_head)  # (B, H, 1, Nk)
        power = op.Pow(op.Cast(2.0, to=TensorProto.DOUBLE), op.Cast(-shift, to=TensorProto.DOUBLE))

        @graph()
        def of_head(q, k, v, sign_of_v, p, sigma, d, scale):  # type: ignore[no-untyped-def]
            size = op.Unsqueeze(sign_of_v * v, [1])  # (Dv, 1, Nk)
            columns = op.Unsqueeze(sign_of_v, [2])  # (Dv, Nk, 1)
            visible = op.Reshape(p, [-1, 1])  # (Nk, 1)
            count = op.Max(op.ReduceSum(visible, keepdims=0), one)
            length = op.Shape(q, start=0, end=1)
            padded = op.Pad(q, op.Concat([0, 0], op.Mod(-length, [16]), [0], axis=0))
            blocks = op.Reshape(padded, op.Concat([-1, 16], op.Shape(q, start=1, end=2), [1], axis=0))

            @graph()
            def of_rows(block: INT64, go_on: BOOL):  # type: ignore[no-untyped-def]
                rows = op.Gather(blocks, block, axis=0)  # (16, F, 1)
                distance = op.Cast(op.ReduceSum(op.Abs(rows - k), [1], keepdims=0), to=TensorProto.DOUBLE)
                mean = op.Floor(op.MatMul(distance, visible) / count + half) * centered
                score = op.Max((distance - mean) * sigma + d, nothing)
                z = op.CastLike(op.Min(op.Floor(score * scale + half), most), zero)  # (16, Nk)
                shrunk = op.MatMul(op.Max(size - z, zero), columns)  # (Dv, 16, 1)
                still = op.Identity(go_on)
                return still, shrunk

            number = op.Squeeze(op.Shape(blocks, start=0, end=1), [0])
            always = op.Constant(value=helper.make_tensor("always", TensorProto.BOOL, [], [True]))
            sums = op.Loop(number, always, body=of_rows)  # (blocks, Dv, 16, 1)
            by_row = op.Transpose(op.Squeeze(sums, [3]), perm=[0, 2, 1])
            return op.Slice(op.Reshape(by_row, op.Concat([-1], op.Shape(v, start=0, end=1), axis=0)), [0], length, [0])

        sums = op.Scan(
            op.Reshape(queries, op.Concat([-1], op.Shape(queries, start=2), axis=0)),
            op.Reshape(keys, op.Concat([-1], op.Shape(keys, start=2), axis=0)),
            op.Reshape(values, op.Concat([-1], op.Shape(values, start=2), axis=0)),
            op.Reshape(signs, op.Concat([-1], op.Shape(values, start=2), axis=0)),
            op.Reshape(present, op.Concat([-1], op.Shape(keys, start=3), axis=0)),
            op.Reshape(op.Expand(op.Reshape(op.Cast(sign, to=TensorProto.DOUBLE), [-1, 1, 1]), per_head), [-1]),
            op.Reshape(op.Expand(op.Reshape(op.Cast(delta, to=TensorProto.DOUBLE), [-1, 1, 1]), per_head), [-1]),
            op.Reshape(op.Expand(op.Reshape(power, [-1, 1, 1]), per_head), [-1]),
            body=of_head,
            num_scan_inputs=8,
        )
        of_heads = op.Reshape(sums, op.Concat(shape[0:2], op.Shape(sums, start=1), axis=0))
        return op.Cast(of_heads, to=TensorProto.DOUBLE)

    return IntegerSums


def _from_floats(IntegerSums: OnnxFunction, settings: Settings) -> OnnxFunction:  # noqa: N803
    """`IntegerInhibitorAttention`: quantized inside."""
    qmax, value_qmax = float(2**settings.bits - 1), float(2 ** (settings.bits - 1) - 1)

    @script(Opset(DOMAIN, 1), default_opset=op)
    def IntegerInhibitorAttention(  # noqa: N802
        query: FLOAT[...],
        key: FLOAT[...],
        value: FLOAT[...],
        key_padding_mask: BOOL[...],
        offset: FLOAT[...],
        source: INT32[...],
        inverse_step: FLOAT[...],
        value_inverse_step: FLOAT[...],
        sign: INT32[...],
        delta: INT32[...],
        shift: INT32[...],
        factors: FLOAT[...],
        num_heads: int,
        bits: int,
        center: str,
        is_signed: int,
    ) -> FLOAT[...]:
        split = op.Concat([0, 0], op.Reshape(op.Constant(value_int=num_heads), [1]), [-1], axis=0)
        q = op.Transpose(op.Reshape(query, split), perm=[0, 2, 1, 3])  # (B, H, Nq, D)
        k = op.Transpose(op.Reshape(key, split), perm=[0, 2, 1, 3])
        repeated = op.Unsqueeze(op.Cast(source, to=TensorProto.INT64), [0, 2])  # (1, H, 1, F - D)
        of_q = op.Concat(op.Shape(q, start=0, end=3), op.Shape(repeated, start=3), axis=0)
        of_k = op.Concat(op.Shape(k, start=0, end=3), op.Shape(repeated, start=3), axis=0)
        all_q = op.Concat(q, op.GatherElements(q, op.Expand(repeated, of_q), axis=3), axis=3)
        all_k = op.Concat(k, op.GatherElements(k, op.Expand(repeated, of_k), axis=3), axis=3)
        low, step = op.Unsqueeze(offset, [1]), op.Reshape(inverse_step, [-1, 1, 1])  # (H, 1, F), (H, 1, 1)
        scaled_q, scaled_k = (all_q - low) * step, (all_k - low) * step
        levels_q = op.Round(op.Clip(op.Where(op.IsNaN(scaled_q), 0.0, scaled_q), 0.0, qmax))
        levels_k = op.Round(op.Clip(op.Where(op.IsNaN(scaled_k), 0.0, scaled_k), 0.0, qmax))
        v = op.Transpose(op.Reshape(value, split), perm=[0, 2, 3, 1])  # (B, H, Dv, Nk)
        scaled_v = v * op.Reshape(value_inverse_step, [-1, 1, 1])
        levels_v = op.Round(op.Clip(op.Where(op.IsNaN(scaled_v), -value_qmax, scaled_v), -value_qmax, value_qmax))
        keys = op.Transpose(levels_k, perm=[0, 1, 3, 2])
        sums = IntegerSums(levels_q, keys, levels_v, key_padding_mask, sign, delta, shift)
        count = op.ReduceSum(op.Cast(key_padding_mask, to=TensorProto.INT64), [1], keepdims=0)  # (B,)
        factor = op.Transpose(op.Gather(factors, count, axis=1), perm=[1, 0])  # (B, H)
        output = op.Cast(sums, to=TensorProto.FLOAT) * op.Unsqueeze(factor, [2, 3])
        return op.Reshape(op.Transpose(output, perm=[0, 2, 1, 3]), [0, 0, -1])

    return IntegerInhibitorAttention


def _from_bytes(IntegerSums: OnnxFunction, settings: Settings) -> OnnxFunction:  # noqa: N803
    """`QLinearInhibitorAttention` of queries, keys and values side by side."""
    qmax, value_qmax = float(2**settings.bits - 1), float(2 ** (settings.bits - 1) - 1)

    @script(Opset(DOMAIN, 1), default_opset=op)
    def QLinearInhibitorAttention(  # noqa: N802
        query: UINT8[...],
        key: UINT8[...],
        value: UINT8[...],
        key_padding_mask: BOOL[...],
        sign: INT32[...],
        delta: INT32[...],
        shift: INT32[...],
        multiplier: INT32[...],
        output_shift: INT32[...],
        num_heads: int,
        bits: int,
        center: str,
        is_signed: int,
        head_size: int,
        value_zero_point: int,
        output_zero_point: int,
    ) -> UINT8[...]:
        heads = op.Reshape(op.Constant(value_int=num_heads), [1])
        split = op.Concat([0, 0], heads, [-1], axis=0)
        features = heads * op.Constant(value_int=head_size)
        rest = op.Shape(query, start=2) - features - features
        packed = op.Cast(query, to=TensorProto.FLOAT)
        q, k, v = op.Split(packed, op.Concat(features, features, rest, axis=0), axis=2)
        levels_q = op.Min(op.Transpose(op.Reshape(q, split), perm=[0, 2, 1, 3]), qmax)
        levels_k = op.Min(op.Transpose(op.Reshape(k, split), perm=[0, 2, 3, 1]), qmax)
        zero = op.Cast(op.Constant(value_int=value_zero_point), to=TensorProto.FLOAT)
        levels_v = op.Clip(op.Transpose(op.Reshape(v, split), perm=[0, 2, 3, 1]) - zero, -value_qmax, value_qmax)
        sums = IntegerSums(levels_q, levels_k, levels_v, key_padding_mask, sign, delta, shift)

        count = op.ReduceSum(op.Cast(key_padding_mask, to=TensorProto.INT64), [1], keepdims=0)  # (B,)
        factor = op.Transpose(op.Gather(multiplier, count, axis=1), perm=[1, 0])  # (B, H)
        exponent = op.Cast(op.Reshape(output_shift, [-1, 1, 1]), to=TensorProto.DOUBLE)
        power = op.Cast(op.Pow(op.Cast(2.0, to=TensorProto.DOUBLE), exponent), to=TensorProto.INT64)
        scaled = op.Cast(sums, to=TensorProto.INT64) * op.Cast(op.Unsqueeze(factor, [2, 3]), to=TensorProto.INT64)
        rounded = scaled + power / op.Constant(value_int=2)
        floor = (rounded - op.Mod(rounded, power)) / power  # a division of integers goes towards 0
        output = op.Clip(
            floor + op.Constant(value_int=output_zero_point), op.Constant(value_int=0), op.Constant(value_int=255)
        )
        return op.Reshape(op.Transpose(op.Cast(output, to=TensorProto.UINT8), perm=[0, 2, 1, 3]), [0, 0, -1])

    return QLinearInhibitorAttention
