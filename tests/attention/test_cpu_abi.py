"""The structures of csrc/inhibitor.h and those that Python packs have the same members, in the same order."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from inhibitor_transformers.attention.call import MaskedTensors, Masks, Options, Tensors
from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.cpu.abi import ABI_VERSION, CALL, INTEGER_CALL, pack_call
from inhibitor_transformers.attention.integer import QuantParams, Requantize
from inhibitor_transformers.attention.integer import cpu as integer_cpu
from tests.attention.engine_cases import Shape
from tests.attention.integer.cases import random_qparams, tensors
from tests.attention.packed import unpacked
from tests.conftest import REPOSITORY

HEADER = re.sub(r"/\*.*?\*/", "", (REPOSITORY / "csrc" / "inhibitor.h").read_text(encoding="utf-8"), flags=re.DOTALL)
FORMATS = {"InhibitorTensor4": "4q", "InhibitorPerHead": "2q", "InhibitorParallel": "q", "int64_t": "q", "double": "d"}


def members_of(struct: str) -> dict[str, str]:
    """Format of each member, by name, as the header declares them."""
    body = re.search(rf"struct {struct} \{{(.*?)\}} {struct};", HEADER, re.DOTALL)
    assert body is not None
    members = {}
    for declaration in filter(None, map(str.strip, body[1].split(";"))):
        kind, names = re.fullmatch(r"(?:const )?(\w+)(.*)", declaration, re.DOTALL).groups()
        for name, length in re.findall(r"(\w+)(?:\[(\d)\])?", names):
            members[name] = f"{length}q" if length else "q" if "*" in names else FORMATS.get(kind, kind)
    return members


def test_members() -> None:
    assert list(members_of("InhibitorCall").items()) == list(CALL.members.items())
    call, *rest = members_of("InhibitorIntegerCall").items()
    assert call == ("call", "InhibitorCall")
    assert rest == list(INTEGER_CALL.members.items())


def test_version() -> None:
    assert re.search(r"INHIBITOR_ABI_VERSION (\d+)", HEADER)[1] == str(ABI_VERSION)


def test_the_parts_of_a_member() -> None:
    assert members_of("InhibitorTensor4") == {"data": "q", "stride": "3q"}
    assert members_of("InhibitorPerHead") == {"data": "q", "stride": "q"}


def test_a_call() -> None:
    query, key, value = torch.zeros(2, 4, 3, 8), torch.zeros(2, 2, 5, 8), torch.zeros(2, 2, 5, 6)
    scalars = [*(torch.full((4,), float(i)) for i in range(3)), torch.zeros(()).expand(4), None, torch.ones(4)]
    padding, pairs = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 4, 3, 5, dtype=torch.bool)
    out = torch.zeros(2, 4, 3, 6)
    options = Options(64.0, is_causal=True, is_signed=False, center="mean")
    bias = torch.zeros(4, 3, 8)[..., :5]
    packed = pack_call(
        *((query, key, value), scalars, Masks(padding, pairs), options, out),
        threads=7,
        score_bias=bias,
        gradients=range(100, 118),
    )
    found = unpacked(CALL, packed)
    sizes = {"batch": 2, "heads": 4, "kv_heads": 2, "queries": 3, "keys": 5, "dim": 8, "value_dim": 6, "threads": 7}
    assert {name: found[name] for name in sizes} == {name: [size] for name, size in sizes.items()}
    for name, t in {"query": query, "key": key, "value": value, "out": out}.items():
        assert found[name] == [t.data_ptr(), *t.stride()[:3]]
    for name, scalar in zip(Tensors._fields[3:9], scalars, strict=True):
        assert found[name] == ([0, 0] if scalar is None else [scalar.data_ptr(), scalar.stride(0)])
    for name, mask in {"key_mask": padding, "attn_mask": pairs}.items():
        assert (found[name], found[f"{name}_stride"]) == ([mask.data_ptr()], list(mask.stride()))
    assert (found["score_bias"], found["score_bias_stride"]) == ([bias.data_ptr()], [24, 8])
    assert [found[name] for name in ("is_causal", "is_signed", "center")] == [[1], [0], [1]]
    assert found["dtype"] == [0]
    assert found["length_reference"] == [64.0]
    gradients = [*found["grad_out"], *found["grad_query"], *found["grad_key"], *found["grad_value"]]
    assert [*gradients, *found["grad_scalars"], *found["grad_bias"]] == list(range(100, 118))


def test_a_bias_that_heads_share_has_no_stride() -> None:
    tensor, bias = torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 3)
    options = Options(64.0, is_causal=False, is_signed=True, center="mean")
    packed = pack_call((tensor,) * 3, None, Masks(None, None), options, tensor, threads=1, score_bias=bias)
    assert unpacked(CALL, packed)["score_bias_stride"] == [0, 3]


def test_the_dtype_of_a_call() -> None:
    tensor = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16)
    packed = pack_call((tensor,) * 3, None, Masks(None, None), Options(0.0, False, True, "mean"), tensor, threads=1)
    assert unpacked(CALL, packed)["dtype"] == [1]


def test_what_a_call_has_not_is_null() -> None:
    tensor = torch.zeros(1, 1, 1, 1)
    packed = pack_call((tensor,) * 3, None, Masks(None, None), Options(0.0, False, True, "mean"), tensor, threads=1)
    absent = ("gamma", "eta", "delta", "length_exponent", "key_mask", "key_mask_stride", "attn_mask")
    absent += ("score_bias", "score_bias_stride", "grad_bias")
    absent += ("attn_mask_stride", "grad_out", "grad_query", "grad_key", "grad_value", "grad_scalars")
    assert {x for name in absent for x in unpacked(CALL, packed)[name]} == {0}


@pytest.fixture
def integer_call(monkeypatch: pytest.MonkeyPatch):
    """(call, QuantParams, a list that gets what is packed) of 4 heads, with 2 split features."""
    shape, packed = Shape(batch=2, heads=4, kv_heads=2, queries=3, keys=5, dim=8, value_dim=6), []
    monkeypatch.setattr(library, "load", lambda: SimpleNamespace(integer_forward=packed.append))
    call = MaskedTensors(*tensors(shape), None, None, is_causal=False, signed=True, center="mean")
    return call, random_qparams(shape, 16, extra=2), packed


ABSENT = ("sums", "factors", "levels", "output_multiplier", "output_shift", "output_zero", "output_qmax")


def require_qparams(found: dict[str, list[float]], qparams: QuantParams) -> None:
    arrays = ("offset", "source", "inverse_step", "value_inverse_step", "sign", "delta", "shift")
    assert {name: found[name] for name in arrays} == {name: [getattr(qparams, name).data_ptr()] for name in arrays}
    assert (found["bits"], found["extra"]) == ([16], [2])


def test_integers_to_floats(integer_call) -> None:
    call, qparams, packed = integer_call
    out = integer_cpu.run(call, qparams)
    members, found = unpacked(CALL, packed[0][: CALL.size]), unpacked(INTEGER_CALL, packed[0][CALL.size :])
    factors = qparams.factors(5)
    require_qparams(found, qparams)
    assert members["out"] == [out.data_ptr(), *out.stride()[:3]]
    assert (found["factors"], found["factor_stride"]) == ([factors.data_ptr()], [factors.stride(0)])
    assert {x for name in ABSENT if name != "factors" for x in found[name]} == {0}


def test_integers_to_sums(integer_call) -> None:
    call, qparams, packed = integer_call
    sums = integer_cpu.integer_sums(call, qparams)
    found = unpacked(INTEGER_CALL, packed[0][CALL.size :])
    require_qparams(found, qparams)
    assert found["sums"] == [sums.data_ptr()]
    assert {x for name in ABSENT if name != "sums" for x in found[name]} == {0}


def test_integers_to_levels(integer_call) -> None:
    call, qparams, packed = integer_call
    requantize = Requantize(qparams, torch.ones(4), 3, 4)
    levels = integer_cpu.run_requantized(call, qparams, requantize)
    found = unpacked(INTEGER_CALL, packed[0][CALL.size :])
    require_qparams(found, qparams)
    assert (found["levels"], found["levels_stride"]) == ([levels.data_ptr()], list(levels.stride()[:3]))
    table = requantize.multipliers(5)
    assert (found["output_multiplier"], found["output_multiplier_stride"]) == ([table.data_ptr()], [table.stride(0)])
    assert 0 not in found["output_shift"]
    assert (found["output_zero"], found["output_qmax"]) == ([3], [15])
    assert {*found["sums"], *found["factors"]} == {0}
