"""Reads calls as they are packed for the kernels: their numbers, and the memory that they point to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from struct import unpack
from typing import NamedTuple

from inhibitor_transformers.attention.cpu.abi import CALL, INTEGER_CALL, CStruct

Numbers = dict[str, list[float]]


def unpacked(struct: CStruct, packed: bytes) -> Numbers:
    """The numbers of each member, by name."""
    assert len(packed) == struct.size
    numbers = iter(unpack(" ".join(struct.members.values()), packed))
    return {name: [next(numbers) for _ in range(_count(f))] for name, f in struct.members.items()}


class Region(NamedTuple):
    """Memory that a call points to: `offset` is that of the pointer in the packed call."""

    offset: int
    address: int
    size: int
    is_output: bool


def forward_regions(call: bytes) -> list[Region]:
    """Of a packed `CALL` for the forward pass."""
    return list(_regions(CALL, call, _float_tensors(unpacked(CALL, call)), {"out"}))


def backward_regions(call: bytes) -> list[Region]:
    """Of a packed `CALL` for the backward pass."""
    numbers = unpacked(CALL, call)
    outputs = {name for name in numbers if name.startswith("grad_")} - {"grad_out"}
    return list(_regions(CALL, call, _float_tensors(numbers) | _gradients(numbers), outputs))


def integer_regions(packed: bytes) -> list[Region]:
    """Of a packed `CALL` + `INTEGER_CALL`; `out` counts only where neither sums nor levels are asked for."""
    call, rest = packed[: CALL.size], packed[CALL.size :]
    numbers, integers = unpacked(CALL, call), unpacked(INTEGER_CALL, rest)
    tensors = _float_tensors(numbers)
    if integers["sums"] != [0] or integers["levels"] != [0]:
        del tensors["out"]
    of_rest = _regions(INTEGER_CALL, rest, _integer_tensors(numbers, integers), {"sums", "levels"}, CALL.size)
    return [*_regions(CALL, call, tensors, {"out"}), *of_rest]


Tensor = tuple[list[float], list[float], int]  # sizes, strides, bytes of an element
_TENSORS = {
    "query": ("heads", "queries", "dim"),
    "key": ("kv_heads", "keys", "dim"),
    "value": ("kv_heads", "keys", "value_dim"),
    "out": ("heads", "queries", "value_dim"),
}
_SCALARS = ("gamma", "eta", "delta", "length_exponent", "key_norm", "unit")


def _sizes(numbers: Numbers, *names: str) -> list[float]:
    return [numbers[name][0] for name in names]


def _float_tensors(numbers: Numbers) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {
        name: (_sizes(numbers, "batch", *sizes), [*numbers[name][1:], 1], 4) for name, sizes in _TENSORS.items()
    }
    tensors |= {name: (numbers["heads"], numbers[name][1:], 4) for name in _SCALARS}
    pairs = _sizes(numbers, "heads", "queries", "keys")
    return tensors | {
        "score_bias": (pairs, [*numbers["score_bias_stride"], 1], 4),
        "key_mask": (_sizes(numbers, "batch", "keys"), numbers["key_mask_stride"], 1),
        "attn_mask": (numbers["batch"] + pairs, numbers["attn_mask_stride"], 1),
    }


def _gradients(numbers: Numbers) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {
        f"grad_{name}": (_sizes(numbers, "batch", *sizes), [*numbers[f"grad_{name}"][1:], 1], 4)
        for name, sizes in _TENSORS.items()
    }
    return tensors | {
        "grad_scalars": _contiguous([len(_SCALARS), *_sizes(numbers, "batch", "heads")], 4),
        "grad_bias": _contiguous(_sizes(numbers, "heads", "queries", "keys"), 4),
    }


def _integer_tensors(numbers: Numbers, integers: Numbers) -> dict[str, Tensor]:
    heads, kv_heads, keys, dim = (numbers[name][0] for name in ("heads", "kv_heads", "keys", "dim"))
    extra, outputs = integers["extra"][0], _sizes(numbers, "batch", "heads", "queries", "value_dim")
    per_head = ("value_inverse_step", "sign", "delta", "shift", "output_shift")
    return {name: _contiguous([heads], 4) for name in per_head} | {
        "offset": _contiguous([kv_heads, dim + extra], 4),
        "source": _contiguous([kv_heads, extra], 4),
        "inverse_step": _contiguous([kv_heads], 4),
        "factors": ([heads, keys + 1], [*integers["factor_stride"], 1], 4),
        "output_multiplier": ([heads, keys + 1], [*integers["output_multiplier_stride"], 1], 4),
        "sums": _contiguous(outputs, 4),
        "levels": (outputs, [*integers["levels_stride"], 1], 1),
    }


def _contiguous(sizes: list[float], item: int) -> Tensor:
    strides: list[float] = [1]
    for size in sizes[:0:-1]:
        strides.insert(0, strides[0] * size)
    return sizes, strides, item


def _regions(
    struct: CStruct, packed: bytes, tensors: dict[str, Tensor], outputs: set[str], start: int = 0
) -> Iterator[Region]:
    numbers = unpacked(struct, packed)
    starts = accumulate((_count(f) for f in struct.members.values()), initial=0)
    for name, first in zip(struct.members, starts, strict=False):
        if name not in tensors or not (address := int(numbers[name][0])):
            continue
        sizes, strides, item = tensors[name]
        elements = 1 + sum((n - 1) * stride for n, stride in zip(sizes, strides, strict=True)) if all(sizes) else 0
        yield Region(start + 8 * first, address, int(elements) * item, name in outputs)


def _count(member: str) -> int:
    """Numbers of a member with this format."""
    return int(member[:-1] or 1)
