"""The reference against its own formulas, one Python integer at a time, and against real numbers."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch

from inhibitor_transformers.attention import inhibition_scores, inhibitor_attention
from inhibitor_transformers.attention.call import MaskedTensors
from inhibitor_transformers.attention.checks import check_masked
from inhibitor_transformers.attention.integer import QuantParams, integer_attention, integer_scores, reference
from inhibitor_transformers.attention.integer.qparams import BITS
from inhibitor_transformers.attention.integer.quantize import quantize_features, quantize_values
from tests.attention.cases import random_bools
from tests.attention.engine_cases import Shape
from tests.attention.integer.cases import random_qparams, tensors

SHAPE = Shape(batch=2, heads=4, kv_heads=2, queries=3, keys=5, dim=3, value_dim=4)
NO_MASKS = {"key_padding_mask": None, "attn_mask": None, "is_causal": False}


def call_of(q, k, v, *, signed=True, center="mean", **masks) -> MaskedTensors:
    return MaskedTensors(**check_masked(q, k, v, **(NO_MASKS | masks), signed=signed, center=center))


def one_sum(q, k, v, visible, qparams: QuantParams, h: int, *, signed: bool, centered: bool) -> list[int]:
    """A of one quantized query q, its keys k and values v: lists of Python integers."""
    sign, delta, shift = (int(t[h]) for t in (qparams.sign, qparams.delta, qparams.shift))
    keys = [j for j in range(len(k)) if visible[j]]
    distance = {j: sum(abs(a - b) for a, b in zip(q, k[j], strict=True)) for j in keys}
    mean = (2 * sum(distance.values()) + len(keys)) // (2 * len(keys)) if centered and keys else 0
    out = [0] * len(v[0])
    for j in keys:
        score = Fraction(max(sign * (distance[j] - mean) + delta, 0)) / Fraction(2) ** shift
        z = min(math.floor(score + Fraction(1, 2)), qparams.value_qmax)
        for d, x in enumerate(v[j]):
            kept = math.copysign(max(abs(x) - z, 0), x) if signed else max(x - z, 0)
            out[d] += int(kept)
    return out


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("center", ["mean", "none"])
def test_sums_are_those_of_the_formulas(bits, extra, signed, center):
    torch.manual_seed(bits)
    for seed in range(5):
        qparams = random_qparams(SHAPE, bits, seed, extra=extra)
        q, k, v = tensors(SHAPE)
        valid = random_bools(seed, SHAPE.batch, SHAPE.heads, SHAPE.queries, SHAPE.keys, valid=0.6)
        call = call_of(q, k, v, signed=signed, center=center, attn_mask=valid)
        ours = reference.integer_sums(call, qparams)
        assert ours.dtype == torch.int32
        queries, all_keys = (quantize_features(t, qparams).tolist() for t in (q, k))
        values = quantize_values(v, qparams).tolist()
        for b, h, i in itertools.product(range(SHAPE.batch), range(SHAPE.heads), range(SHAPE.queries)):
            kv = h // (SHAPE.heads // SHAPE.kv_heads)
            options = {"signed": signed, "centered": center == "mean"}
            row = one_sum(queries[b][h][i], all_keys[b][kv], values[b][h], valid[b, h, i], qparams, h, **options)
            assert ours[b, h, i].tolist() == row


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(-2, [0, 4, 8, 12, 16]), (0, [0, 1, 2, 3, 4]), (1, [0, 1, 1, 2, 2]), (2, [0, 0, 1, 1, 1])],
)
def test_scores_are_rounded_half_up(shift, expected):
    """U/2^s for U = 0 … 4: ½ and 1½ halves, ¼, ½ and ¾ quarters."""
    shape = Shape(batch=1, heads=1, kv_heads=1, queries=1, keys=5, dim=1, value_dim=1)
    qparams = random_qparams(shape, 16)
    for name, value in (("sign", 1), ("delta", 0), ("shift", shift)):
        getattr(qparams, name).fill_(value)
    q, k = torch.zeros(1, 1, 1, 1, dtype=torch.int64), torch.arange(5).view(1, 1, 5, 1)
    assert reference.scores(q, k, None, qparams, centered=False).flatten().tolist() == expected


@pytest.mark.parametrize("bits", BITS)
def test_quantized_values(bits):
    qmax, value_qmax = 2**bits - 1, 2 ** (bits - 1) - 1
    shape = Shape(batch=1, heads=1, kv_heads=1, queries=1, keys=1, dim=1, value_dim=1)
    qparams = random_qparams(shape, bits)
    for name, value in (("offset", -1.0), ("inverse_step", 2.0), ("value_inverse_step", 2.0)):
        getattr(qparams, name).fill_(value)
    x = torch.tensor([-9.0, -1.0, -0.75, -0.25, 0.0, 1e30, math.inf, -math.inf, math.nan]).view(1, 1, -1, 1)
    features = quantize_features(x, qparams).flatten().tolist()
    assert features == [0, 0, 0, 2, 2, qmax, qmax, 0, 0]  # ½ and 1½ round to even
    values = quantize_values(x, qparams).flatten().tolist()
    assert values == [max(-18, -value_qmax), -2, -2, 0, 0, value_qmax, value_qmax, -value_qmax, -value_qmax]


@pytest.mark.parametrize("bits", [3, 8, 16])
def test_a_split_feature_counts_as_the_whole_one(bits):
    """|q − k| = Σ |clip(q) − clip(k)| over adjoining ranges: as one feature with as many bits as it takes."""
    qmax, parts = 2**bits - 1, 4
    shape = Shape(batch=1, heads=1, kv_heads=1, queries=1, keys=1, dim=1, value_dim=1)
    qparams = random_qparams(shape, bits, extra=parts - 1)
    qparams.inverse_step.fill_(1)
    qparams.offset.copy_(torch.arange(parts) * qmax)
    x = torch.randint(0, parts * qmax + 1, (1, 1, 50, 1)).float()
    x[0, 0, :2, 0] = torch.tensor([0, parts * qmax])
    levels = quantize_features(x, qparams)
    distance = (levels[:, :, :, None] - levels[:, :, None]).abs().sum(-1)
    assert torch.equal(distance, (x - x.mT).abs().long())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("center", "signed"),
    [("mean", True), ("none", True), ("mean", False)],  # neither: hardly any of v would be left to compare
)
@pytest.mark.parametrize("gamma", [1.0, -0.5, 0.0, 1e-6, 3.0])
@pytest.mark.parametrize(
    "masks",
    [{"key_padding_mask": random_bools(1, 2, 20)}, {"attn_mask": random_bools(2, 2, 4, 9, 20)}, {"is_causal": True}],
    ids=lambda masks: next(iter(masks)),
)
def test_close_to_real_numbers(bits, center, signed, gamma, masks):
    """Within a step or two, measured by the sum of the magnitudes that the scores take away from."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 9, 16) * torch.rand(16), torch.randn(2, 2, 20, 16), torch.randn(2, 2, 20, 8)
    scalars = {
        "gamma": torch.full((4,), gamma),
        "eta": torch.randn(4),
        "delta": torch.tensor([0.3, 0.7, -0.1, 0.5]),
        "length_exponent": torch.rand(4),
    }
    qparams = QuantParams.from_tensors(q, k, v, **scalars, bits=bits)
    options = {"center": center, "signed": signed, **masks}
    got = integer_attention(q, k, v, qparams, **options, engine="reference")
    doubles, scalars = [t.double() for t in (q, k, v)], {n: t.double() for n, t in scalars.items()}
    exact = inhibitor_attention(*doubles, **scalars, **options)
    nothing = {name: torch.zeros(4, dtype=torch.float64) for name in ("gamma", "delta")}
    whole = inhibitor_attention(doubles[0], doubles[1], doubles[2].abs(), **scalars | nothing, **options)
    assert (got - exact).norm() / whole.norm() < 2 / 2**bits


MASKS = {
    "none": {},
    "keys": {"key_padding_mask": random_bools(1, SHAPE.batch, SHAPE.keys)},
    "pairs": {"attn_mask": random_bools(2, SHAPE.batch, SHAPE.heads, SHAPE.queries, SHAPE.keys)},
    "causal": {"is_causal": True},
}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("center", ["mean", "none"])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_scores_are_those_that_the_sums_apply(bits, center, masks):
    """In units of v: steps of v there are whole numbers, and +inf stands where a key is not visible."""
    torch.manual_seed(0)
    q, k, v = tensors(SHAPE)
    qparams = random_qparams(SHAPE, bits)
    z = integer_scores(q, k, qparams, center=center, **masks)
    assert z.dtype == torch.float32
    call = call_of(q, k, v, center=center, **masks)
    if (valid := call.valid_pairs()) is not None:
        assert torch.equal(z.isposinf(), ~valid.expand_as(z))
    steps = (z * qparams.value_inverse_step[:, None, None]).round().clamp_max(qparams.value_qmax).long()
    values = quantize_values(v, qparams)
    sums = (values.sign()[:, :, None] * (values.abs()[:, :, None] - steps[..., None]).clamp_min(0)).sum(-2)
    assert torch.equal(sums.to(torch.int32), reference.integer_sums(call, qparams))


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 3e-2), (16, 2e-4)])
@pytest.mark.parametrize("center", ["mean", "none"])
def test_scores_are_close_to_real_numbers(bits, tolerance, center):
    """Up to the largest |v|, which lets nothing pass."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 9, 16) / 4, torch.randn(2, 2, 20, 16) / 4, torch.randn(2, 2, 20, 8)
    of_scores = {"gamma": torch.tensor([1.0, -0.5, 2.0, 0.0]), "delta": torch.tensor([0.3, 0.7, -0.1, 0.5])}
    qparams = QuantParams.from_tensors(
        q, k, v, **of_scores, eta=torch.ones(4), length_exponent=torch.zeros(4), bits=bits
    )
    options = {"center": center, "key_padding_mask": random_bools(1, 2, 20)}
    most = v.abs().amax((0, 2, 3)).repeat_interleave(2)[:, None, None]
    got, exact = integer_scores(q, k, qparams, **options), inhibition_scores(q, k, **of_scores, **options)
    visible = exact.isfinite()
    assert torch.equal(got.isfinite(), visible)
    got, exact = torch.minimum(got, most), torch.minimum(exact, most)
    assert (got - exact)[visible].norm() / exact[visible].norm() < tolerance


def test_chunks_change_nothing(monkeypatch):
    torch.manual_seed(0)
    q, k, v = tensors(SHAPE)
    qparams, call = random_qparams(SHAPE, 8), call_of(q, k, v, is_causal=True)
    sums, z = reference.integer_sums(call, qparams), integer_scores(q, k, qparams, is_causal=True)
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", 1)
    assert torch.equal(reference.integer_sums(call, qparams), sums)
    assert torch.equal(integer_scores(q, k, qparams, is_causal=True), z)
