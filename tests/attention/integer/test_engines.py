"""Every compiled engine is bit-exact with the reference, whatever it is given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhibitor_transformers.attention.call import MaskedTensors
from inhibitor_transformers.attention.checks import check_masked
from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import QuantParams, Requantize, cpu, reference
from inhibitor_transformers.attention.integer.qparams import BITS, MAX_DELTA, MAX_DISTANCE, MAX_SUM, SHIFTS
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
        heads = 1 if seed % 2 else shape.heads
        masks["attn_mask"] = random_bools(seed + 1, shape.batch, heads, shape.queries, shape.keys)
    return masks


def assert_equal_everywhere(call: MaskedTensors, qparams: QuantParams) -> None:
    sums, out = reference.integer_sums(call, qparams), reference.run(call, qparams)
    for isa in ISAS:
        with instruction_set(isa):
            assert torch.equal(cpu.integer_sums(call, qparams), sums), isa
            got = cpu.run(call, qparams)
        assert torch.equal(got.view(torch.int32), out.view(torch.int32)), isa  # the sign of zero too


def assert_requantized_alike(call: MaskedTensors, qparams: QuantParams, requantize: Requantize) -> None:
    expected = reference.run_requantized(call, qparams, requantize)
    for isa in ISAS:
        with instruction_set(isa):
            assert torch.equal(cpu.run_requantized(call, qparams, requantize), expected), isa


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
        dim=draw(st.one_of(size, st.sampled_from([128, 129, 260]))),  # in 8 bits, distances below and above 2^15
        value_dim=draw(size),
    )


@settings(max_examples=120, deadline=None)
@given(
    shape=shapes(),
    seed=st.integers(0, 2**16),
    mask=st.sampled_from(MASKS),
    bits=st.sampled_from(BITS),
    extra=st.sampled_from([0, 1, 9]),
    signed=st.booleans(),
    center=st.sampled_from(["mean", "none"]),
)
def test_any_input(shape, seed, mask, bits, extra, signed, center):
    torch.manual_seed(seed)
    qparams = random_qparams(shape, bits, seed, extra=extra)
    call = call_of(*tensors(shape), masks_of(mask, shape, seed), signed, center)
    assert_equal_everywhere(call, qparams)


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes(),
    seed=st.integers(0, 2**16),
    mask=st.sampled_from(MASKS),
    bits=st.sampled_from(BITS),
    output_bits=st.sampled_from([3, 4, 5, 6, 8]),
    magnitude=st.integers(-9, 9),
)
def test_any_requantized_output(shape, seed, mask, bits, output_bits, magnitude):
    torch.manual_seed(seed)
    qparams = random_qparams(shape, bits, seed)
    step = (0.1 + torch.rand(shape.heads)) * 10.0**magnitude
    requantize = Requantize(qparams, step, seed % 2**output_bits, output_bits)
    assert_requantized_alike(call_of(*tensors(shape), masks_of(mask, shape, seed)), qparams, requantize)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_shapes_of_real_models(bits, size):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, size, 4, 64).transpose(1, 2) for _ in range(3))  # heads last in memory
    scalars = {name: torch.rand(4) for name in ("gamma", "eta", "delta", "length_exponent")}
    qparams = QuantParams.from_tensors(q, k, v, **scalars, bits=bits)
    masks = masks_of("key_padding_mask" if size == 128 else "none", Shape(2, 4, 4, size, size, 64, 64), 0)
    for center in ("mean", "none"):
        assert_equal_everywhere(call_of(q, k, v, masks, center=center), qparams)
    assert_requantized_alike(call_of(q, k, v, masks), qparams, Requantize(qparams, torch.full((4,), 0.3), 128))


def largest(bits: int, dim: int) -> QuantParams:
    """Heads of 1 that pass everything."""
    shape = Shape(1, 1, 1, 1, 1, dim, 1)
    qparams = random_qparams(shape, bits)
    qparams.offset.zero_()
    qparams.inverse_step.fill_(1.0)
    qparams.value_inverse_step.fill_(1.0)
    qparams.sign.fill_(1)
    qparams.delta.zero_()
    return qparams


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dim", [1, 64, 128, 129, 1024, 8192])
def test_the_largest_distance(bits, dim):
    """All features of the queries at their maximum, those of half of the keys at zero."""
    dim = min(dim, MAX_DISTANCE // (2**bits - 1))
    qparams = largest(bits, dim)
    q, k = torch.full((1, 1, 5, dim), 1e9), torch.full((1, 1, 90, dim), 1e9)
    k[:, :, ::2] = 0.0
    v = torch.full((1, 1, 90, 17), 1e9)
    for center in ("mean", "none"):
        for sign in (1, -1):
            qparams.sign.fill_(sign)
            assert_equal_everywhere(call_of(q, k, v, masks_of("none", None, 0), center=center), qparams)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shift", [SHIFTS[0], -1, 0, 1, 7, 8, 9, 10, 12, 13, 14, SHIFTS[1]])
def test_every_shift_with_every_size_of_delta(bits, shift):
    """Scores that leave 16 bits, above or below, before the shift or with it."""
    torch.manual_seed(0)
    q, k, v = torch.rand(1, 1, 9, 64), torch.rand(1, 1, 70, 64), torch.randn(1, 1, 70, 5)
    qparams = largest(bits, 64)
    qparams.inverse_step.fill_(float(2**bits - 1))
    qparams.value_inverse_step.fill_(float(2 ** (bits - 1) - 1) / 3)
    qparams.shift.fill_(shift)
    sizes = (0, 1, 2**7, 2**12, 2**15 - 1, 2**15, 2**15 + 2**12, 2**16, 2**17, 2**22, MAX_DELTA)
    for sign in (-1, 0, 1):
        qparams.sign.fill_(sign)
        for delta in (*sizes, *(-size for size in sizes)):
            qparams.delta.fill_(delta)
            for center in ("mean", "none"):
                call = call_of(q, k, v, masks_of("none", None, 0), center=center)
                sums = reference.integer_sums(call, qparams)
                for isa in ISAS:
                    with instruction_set(isa):
                        assert torch.equal(cpu.integer_sums(call, qparams), sums), (isa, sign, delta, center)


@pytest.mark.parametrize(("bits", "keys"), [(3, 70_000), (8, 70_000), (16, 65_538)])
def test_the_largest_sum(bits, keys):
    """Every value at its maximum and nothing inhibited; 16 bits with as many keys as may be."""
    qparams = largest(bits, 1)
    q, k, v = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, keys, 1), torch.full((1, 1, keys, 3), 1e9)
    v[..., 1] = -1e9
    call = call_of(q, k, v, masks_of("none", None, 0))
    top = keys * qparams.value_qmax
    assert top <= MAX_SUM
    assert reference.integer_sums(call, qparams)[0, 0, 0].tolist() == [top, -top, top]
    assert_equal_everywhere(call, qparams)


def test_the_largest_row_of_distances():
    """Their sum takes more than 32 bits, whether they have 16 or 32 themselves."""
    for dim in (128, 129):
        qparams = largest(8, dim)
        q, k = torch.full((1, 1, 1, dim), 1e9), torch.zeros(1, 1, 150_000, dim)
        call = call_of(q, k, torch.ones(1, 1, 150_000, 1), masks_of("none", None, 0))
        assert_equal_everywhere(call, qparams)


def test_any_memory_order():
    torch.manual_seed(0)
    shape = Shape(batch=2, heads=4, kv_heads=2, queries=7, keys=33, dim=20, value_dim=24)
    qparams = random_qparams(shape, 8, extra=3)
    q, k, v = tensors(shape)
    expected = reference.integer_sums(call_of(q, k, v, masks_of("none", shape, 0)), qparams)
    strided = [t.repeat_interleave(2, -1)[..., ::2] for t in (q, k, v)]
    rows = [t.repeat_interleave(3, 2)[:, :, ::3] for t in (q, k, v)]
    features_first = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in (q, k, v)]
    for given_tensors in (strided, rows, features_first):
        assert torch.equal(cpu.integer_sums(call_of(*given_tensors, masks_of("none", shape, 0)), qparams), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    torch.manual_seed(0)
    shape = Shape(batch=1, heads=2, kv_heads=1, queries=300, keys=140, dim=20, value_dim=24)
    qparams = random_qparams(shape, 8)
    call = call_of(*tensors(shape), masks_of("all", shape, 0))
    requantize = Requantize(qparams, torch.ones(2), 100)
    expected, levels = reference.run(call, qparams), reference.run_requantized(call, qparams, requantize)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(cpu.run(call, qparams), expected)
        assert torch.equal(cpu.run_requantized(call, qparams, requantize), levels)
    finally:
        torch.set_num_threads(before)
