"""The structures of csrc/abi.h and those that Python packs have the same members, in the same order."""

from __future__ import annotations

import re
from struct import unpack

import pytest
import torch

from inhibitor_transformers.attention.call import Masks, Options
from inhibitor_transformers.attention.cpu.abi import ABI_VERSION, CALL, INTEGER_CALL, CStruct, pack_call, per_head
from tests.conftest import REPOSITORY

HEADER = re.sub(r"//.*", "", (REPOSITORY / "csrc" / "abi.h").read_text(encoding="utf-8"))
FORMATS = {"Tensor4": "4q", "PerHead": "2q", "int64_t": "q", "double": "d"}


def members_of(struct: str) -> dict[str, str]:
    """Format of each member, by name, as the header declares them."""
    body = re.search(rf"struct {struct} \{{(.*?)\}};", HEADER, re.DOTALL)
    assert body is not None
    members = {}
    for declaration in filter(None, map(str.strip, body[1].split(";"))):
        kind, names = re.fullmatch(r"(?:const )?(\w+)(.*)", declaration, re.DOTALL).groups()
        for name, length in re.findall(r"(\w+)(?:\[(\d)\])?", names):
            members[name] = f"{length}q" if length else "q" if "*" in names else FORMATS.get(kind, kind)
    return members


def test_members() -> None:
    assert list(members_of("InhibitorCall").items()) == list(CALL.members.items())
    call, *rest = members_of("IntegerCall").items()
    assert call == ("call", "InhibitorCall")
    assert rest == list(INTEGER_CALL.members.items())


def test_version() -> None:
    assert re.search(r"kAbiVersion = (\d+);", HEADER)[1] == str(ABI_VERSION)


def test_the_parts_of_a_member() -> None:
    assert members_of("Tensor4") == {"data": "q", "stride": "3q"}
    assert members_of("PerHead") == {"data": "q", "stride": "q"}


def test_packing_goes_by_name() -> None:
    pair = CStruct(size="q", scale="d", stride="2q")
    assert unpack("q d 2q", pair.pack(stride=(3, 4), scale=0.5, size=2)) == (2, 0.5, 3, 4)
    with pytest.raises(KeyError, match="scale"):
        pair.pack(size=2, stride=(3, 4))


def test_a_call() -> None:
    query, key, value = torch.zeros(2, 4, 3, 8), torch.zeros(2, 2, 5, 8), torch.zeros(2, 2, 5, 6)
    scalars = [torch.full((4,), float(i)) for i in range(3)] + [torch.zeros(()).expand(4)]
    mask, out = torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 4, 3, 6)
    options = Options(64.0, is_causal=True, is_signed=False, is_centered=True)
    packed = pack_call((query, key, value), scalars, Masks(mask, None), options, out, threads=7)
    assert len(packed) == CALL.size
    numbers = iter(unpack(" ".join(CALL.members.values()), packed))
    found = {name: [next(numbers) for _ in range(int(f[:-1] or 1))] for name, f in CALL.members.items()}
    sizes = ("batch", "heads", "kv_heads", "queries", "keys", "dim", "value_dim", "threads")
    assert [found[name] for name in sizes] == [[2], [4], [2], [3], [5], [8], [6], [7]]
    assert found["value"] == [value.data_ptr(), 60, 30, 6]
    assert found["length_exponent"] == list(per_head(scalars[3])) == [scalars[3].data_ptr(), 0]
    assert found["key_mask"] == [mask.data_ptr()]
    assert found["key_mask_stride"] == [5, 1]
    assert found["attn_mask"] + found["attn_mask_stride"] + found["grad_scalars"] == [0] * 6
    assert [found[name] for name in ("is_causal", "is_signed", "is_centered")] == [[1], [0], [1]]
    assert found["length_reference"] == [64.0]
