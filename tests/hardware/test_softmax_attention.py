"""Integer softmax attention: key by key as its description says, and near softmax attention in floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from inhibitor_transformers.hardware.circuits.softmax_model import (
    MAX_GAIN,
    SoftmaxFormat,
    attend,
    normalize,
)
from inhibitor_transformers.hardware.softmax_attention import choose_steps, softmax_attention_integers


def by_hand(
    q: list[int], keys: list[list[int]], values: list[int], seen: list[bool], shift: int, gain: int, form: SoftmaxFormat
) -> tuple[int, int, int]:
    """A, ℓ and Y of one query and one feature, in Python's integers, one key after the other."""
    b, f = form.bits, form.fraction_bits
    maximum, outputs, total = -128, 0, 0
    for start in range(0, len(keys), form.chunk):
        before, p = maximum, {}
        for j in range(start, min(start + form.chunk, len(keys))):
            if not seen[j]:
                continue
            t = sum(x * y for x, y in zip(q, keys[j], strict=True)) * 2**f >> shift
            t = max(-(2 ** (7 + f)), min(2 ** (7 + f) - 1, t))
            higher = max(maximum, t >> f)
            p = {i: old >> (higher - maximum) for i, old in p.items()}
            maximum = higher
            p[j] = ((2 * round(2 ** (b - 1 + (t % 2**f) / 2**f)) >> (maximum - (t >> f))) + 1) >> 1
        outputs = (outputs >> (maximum - before)) + sum(p[j] * values[j] for j in p)
        total = (total >> (maximum - before)) + sum(p.values())
    if not total:
        return outputs, total, 0
    n, e = total.bit_length(), 2 * b + 1 - gain
    inverse = (2 ** (n + b + 1) - 1) // total
    y = (outputs >> (n - b)) * inverse + 2 ** (e - 1) >> e
    return outputs, total, max(-form.top, min(form.top, y))


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_the_model_is_its_description(bits: int, chunk: int) -> None:
    generator = np.random.default_rng(bits + chunk)
    form = SoftmaxFormat(bits, chunk)
    q, k, v = (generator.integers(-form.top, form.top, size, endpoint=True) for size in ((5, 6), (13, 6), (13, 3)))
    valid = generator.random((5, 13)) < 0.7
    valid[0] = False
    for shift in (0, 2 * bits - 4, 2 * bits, 40):
        outputs, total = attend(q, k, v, valid, np.array(shift), form)
        for gain in range(MAX_GAIN + 1):
            y = normalize(outputs, total, np.array(gain), form)
            for i in range(5):
                for d in range(3):
                    expected = by_hand(
                        q[i].tolist(), k.tolist(), v[:, d].tolist(), valid[i].tolist(), shift, gain, form
                    )
                    assert (outputs[i, d], total[i], y[i, d]) == expected


def test_heads_and_batches_do_not_mix() -> None:
    generator = np.random.default_rng(0)
    form = SoftmaxFormat(8, 4)
    q, k, v = (generator.integers(-127, 128, (2, 3, n, 4)) for n in (5, 9, 9))
    valid, shift = generator.random((2, 3, 5, 9)) < 0.8, np.array([10, 11, 13])
    outputs, total = attend(q, k, v, valid, shift, form)
    for b in range(2):
        for h in range(3):
            alone = attend(q[b, h], k[b, h], v[b, h], valid[b, h], shift[h], form)
            assert np.array_equal(outputs[b, h], alone[0])
            assert np.array_equal(total[b, h], alone[1])


def test_other_bits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bits is 6; .*\[4, 8, 16\]"):
        SoftmaxFormat(6, 8)


def call(seed: int, *, causal: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heads of different ranges."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, 40, 16, generator=generator) for _ in range(3))
    scale = torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    valid = torch.ones(2, 1, 40, 40, dtype=torch.bool)
    valid[1, :, :, 25:] = False
    return q * scale, k * 1.3, v / scale, valid.tril() if causal else valid


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("bits", "limit"), [(16, 0.005), (8, 0.04), (4, 0.4)])
def test_near_softmax_attention(bits: int, limit: float, causal: bool) -> None:
    steps = choose_steps([call(seed, causal=causal) for seed in (0, 1)], bits)
    q, k, v, valid = call(0, causal=causal)
    expected = scaled_dot_product_attention(q, k, v, attn_mask=valid)
    for requantized in (True, False):
        found = softmax_attention_integers(q, k, v, valid, steps, requantized=requantized)
        assert found.dtype == torch.float32
        error = (found - expected).square().sum((0, 2, 3)) / expected.square().sum((0, 2, 3))
        assert error.sqrt().max() < limit * (1.5 if requantized and bits < 16 else 1)


def test_scores_need_a_shift_alone() -> None:
    steps = choose_steps([call(1, causal=False)], 8)
    unit = steps.q_step * steps.k_step / 16**0.5 * np.log2(np.e)
    torch.testing.assert_close(unit, torch.exp2(-steps.shift.double()), rtol=1e-12, atol=0)


def test_a_query_that_sees_no_key_gets_zeros() -> None:
    steps = choose_steps([call(1, causal=False)], 8)
    q, k, v, valid = call(0, causal=False)
    found = softmax_attention_integers(q, k, v, valid & False, steps)
    assert not found.any()
