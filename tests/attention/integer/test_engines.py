"""Every compiled engine is bit-exact with the reference, whatever it is given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhibitor_transformers.attention.call import MaskedTensors
from inhibitor_transformers.attention.checks import check_masked
from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import QuantParams, cpu, reference
from inhibitor_transformers.attention.integer.qparams import PRECISIONS
from tests.attention.cases import random_bools
from tests.attention.engine_cases import Shape, instruction_set
from tests.attention.integer.cases import random_qparams, tensors

pytestmark = pytest.mark.skipif(
    library.unavailable() is not None, reason=f"no compiled kernels: {library.unavailable()}"
)
ISAS = [] if library.unavailable() else library.load().isas
MASKS = ("none", "key_padding_mask", "attn_mask", "is_causal", "all")


def masks_of(kind: str, shape: Shape, seed: int) -> dict:
    masks = {"key_padding_mask": None, "attn_mask": None, "is_causal": kind in ("is_causal", "all")}
    if kind in ("key_padding_mask", "all"):
        masks["key_padding_mask"] = random_bools(seed, shape.batch, shape.keys)
    if kind in ("attn_mask", "all"):
        masks["attn_mask"] = random_bools(seed + 1, shape.batch, 1, shape.queries, shape.keys)
    return masks


def assert_equal_everywhere(call: MaskedTensors, qparams: QuantParams) -> None:
    sums, out = reference.integer_sums(call, qparams), reference.run(call, qparams)
    for isa in ISAS:
        with instruction_set(isa):
            assert torch.equal(cpu.integer_sums(call, qparams), sums), isa
            got = cpu.run(call, qparams)
        assert torch.equal(got.view(torch.int32), out.view(torch.int32)), isa  # the sign of zero too


def call_of(q, k, v, masks, signed=True, center="mean") -> MaskedTensors:
    return MaskedTensors(**check_masked(q, k, v, **masks, signed=signed, center=center))


@st.composite
def shapes(draw) -> Shape:
    kv_heads, groups = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2)]))
    size = st.integers(1, 70)
    return Shape(
        batch=draw(st.integers(1, 2)),
        heads=kv_heads * groups,
        kv_heads=kv_heads,
        queries=draw(st.integers(1, 40)),
        keys=draw(st.integers(0, 150)),
        dim=draw(size),
        value_dim=draw(size),
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes(),
    seed=st.integers(0, 2**16),
    mask=st.sampled_from(MASKS),
    bits=st.sampled_from([8, 16]),
    signed=st.booleans(),
    center=st.sampled_from(["mean", "none"]),
)
def test_any_input(shape, seed, mask, bits, signed, center):
    torch.manual_seed(seed)
    qparams = random_qparams(shape, bits, seed)
    assert_equal_everywhere(call_of(*tensors(shape), masks_of(mask, shape, seed), signed, center), qparams)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_shapes_of_real_models(bits, size):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, size, 4, 64).transpose(1, 2) for _ in range(3))  # heads last in memory
    scalars = {name: torch.rand(4) for name in ("gamma", "eta", "delta", "length_exponent")}
    qparams = QuantParams.from_tensors(q, k, v, **scalars, bits=bits)
    masks = masks_of("key_padding_mask" if size == 128 else "none", Shape(2, 4, 4, size, size, 64, 64), 0)
    assert_equal_everywhere(call_of(q, k, v, masks), qparams)


def largest(bits: int, dim: int) -> QuantParams:
    """Heads of 1, with all weights as large as they may be, that pass everything."""
    shape = Shape(1, 1, 1, 1, 1, dim, 1)
    qparams = random_qparams(shape, bits)
    qparams.offset.zero_()
    qparams.inverse_step.fill_(1.0)
    qparams.weight.fill_(PRECISIONS[bits].largest_weight(dim))
    qparams.value_inverse_step.fill_(1.0)
    qparams.sign.fill_(1)
    qparams.delta.zero_()
    return qparams


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("dim", [1, 64, 256, 1024])
def test_the_largest_distance(bits, dim):
    """All features of the queries at their maximum, those of half of the keys at zero."""
    qparams = largest(bits, dim)
    q, k = torch.full((1, 1, 5, dim), 1e9), torch.full((1, 1, 90, dim), 1e9)
    k[:, :, ::2] = 0.0
    v = torch.full((1, 1, 90, 17), 1e9)
    for center in ("mean", "none"):
        for sign in (1, -1):
            qparams.sign.fill_(sign)
            assert_equal_everywhere(call_of(q, k, v, masks_of("none", None, 0), center=center), qparams)


@pytest.mark.parametrize(("bits", "keys"), [(8, 70_000), (16, 65_538)])
def test_the_largest_sum(bits, keys):
    """Every value at its maximum and nothing inhibited; 16 bits with as many keys as may be."""
    qparams = largest(bits, 1)
    qparams.multiplier.zero_()
    q, k, v = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, keys, 1), torch.full((1, 1, keys, 3), 1e9)
    v[..., 1] = -1e9
    call = call_of(q, k, v, masks_of("none", None, 0))
    top = keys * PRECISIONS[bits].value_qmax
    assert reference.integer_sums(call, qparams)[0, 0, 0].tolist() == [top, -top, top]
    assert_equal_everywhere(call, qparams)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    torch.manual_seed(0)
    shape = Shape(batch=1, heads=2, kv_heads=1, queries=300, keys=140, dim=20, value_dim=24)
    qparams = random_qparams(shape, 8)
    call = call_of(*tensors(shape), masks_of("all", shape, 0))
    expected = reference.run(call, qparams)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(cpu.run(call, qparams), expected)
    finally:
        torch.set_num_threads(before)
