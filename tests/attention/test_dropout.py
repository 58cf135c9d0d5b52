"""Attention dropout: whole keys, per batch row and head, rescaled."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from tests.attention.brute_force import brute_force
from tests.attention.cases import Inputs, Shape, assert_close, assert_same_result, chunks_of, random_inputs, run

SHAPE = Shape(batch=3, heads=4, kv_heads=4, queries=5, keys=12)


def dropped_keys(inputs: Inputs, dropout_p: float, seed: int) -> Tensor:
    """(B, H, Nk) bool, read off the value's gradient of a call in which nothing is inhibited (Z = 0)."""
    torch.manual_seed(seed)
    value = inputs["value"].clone().requires_grad_()
    output = inhibitor_attention(inputs["query"], inputs["key"], value, delta=-1e6, dropout_p=dropout_p)
    (gradient,) = torch.autograd.grad(output.sum(), value)
    dropped = gradient == 0
    assert torch.equal(dropped.any(-1), dropped.all(-1)), "a key is dropped whole or not at all"
    kept = gradient[~dropped]
    torch.testing.assert_close(kept, torch.full_like(kept, SHAPE.queries / (1 - dropout_p)))
    return dropped.all(-1)


def test_nothing_is_drawn_without_dropout() -> None:
    inputs, before = random_inputs(SHAPE), torch.get_rng_state()
    output = inhibitor_attention(**inputs, dropout_p=0.0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(output, inhibitor_attention(**inputs))


def test_keys_are_dropped_per_batch_row_and_head() -> None:
    dropped = dropped_keys(random_inputs(SHAPE), 0.5, seed=0).flatten(0, 1)
    patterns = {tuple(row.tolist()) for row in dropped}
    assert len(patterns) == SHAPE.batch * SHAPE.heads


def test_every_key_can_be_dropped_with_the_given_probability() -> None:
    inputs = random_inputs(SHAPE)
    draws = torch.stack([dropped_keys(inputs, 0.3, seed) for seed in range(300)]).double()
    rate = draws.mean((0, 1, 2))  # per key, the first ("CLS") included; 3,600 draws each
    assert (rate - 0.3).abs().max() < 5 * math.sqrt(0.3 * 0.7 / 3600)


def test_a_dropped_key_stays_in_the_mean_and_in_the_count() -> None:
    """The output is that of zeroed values and η/(1 − p); no gradient reaches a dropped value."""
    inputs, padding = random_inputs(SHAPE), torch.ones(SHAPE.batch, SHAPE.keys, dtype=torch.bool)
    padding[:, -2:] = False
    dropped = dropped_keys(inputs, 0.4, seed=3)
    torch.manual_seed(3)
    result = run(inputs, dropout_p=0.4, key_padding_mask=padding)
    zeroed = inputs | {"value": inputs["value"].masked_fill(dropped[..., None], 0.0), "eta": inputs["eta"] / 0.6}
    assert_close(result.output, brute_force(**zeroed, key_padding_mask=padding))
    assert (result.gradients["value"][dropped] == 0).all()


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_expectation_is_the_output_without_dropout(signed: bool) -> None:
    draws = 20_000
    one = random_inputs(Shape(batch=1, heads=2, kv_heads=1, queries=2, keys=5, features=2, value_features=2))
    many = one | {name: one[name].expand(draws, -1, -1, -1) for name in ("query", "key", "value")}
    outputs = inhibitor_attention(**many, dropout_p=0.25, signed=signed)
    expected = inhibitor_attention(**one, signed=signed)
    standard_error = outputs.std(0, keepdim=True) / math.sqrt(draws)
    assert standard_error.max() > 0
    assert ((outputs.mean(0, keepdim=True) - expected).abs() <= 5 * standard_error + 1e-12).all()


def test_heads_that_share_a_key_drop_it_independently() -> None:
    inputs = random_inputs(SHAPE._replace(kv_heads=1))
    value = inputs["value"].requires_grad_()
    output = inhibitor_attention(inputs["query"], inputs["key"], value, delta=-1e6, dropout_p=0.5)
    (gradient,) = torch.autograd.grad(output.sum(), value)
    heads_that_kept_it = gradient * 0.5 / SHAPE.queries
    assert_close(heads_that_kept_it, heads_that_kept_it.round())
    assert set(heads_that_kept_it.flatten().round().int().tolist()) >= {1, 2, 3}


def test_the_draw_follows_the_seed() -> None:
    inputs = random_inputs(SHAPE)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(inhibitor_attention(**inputs, dropout_p=0.5))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_recomputed_chunks_use_the_same_draw() -> None:
    inputs = random_inputs(SHAPE._replace(kv_heads=2))
    torch.manual_seed(5)
    whole = run(inputs, dropout_p=0.5)
    torch.manual_seed(5)
    with chunks_of(1):
        assert_same_result(run(inputs, dropout_p=0.5), whole)


def test_padding_stays_invisible_under_dropout() -> None:
    inputs = random_inputs(SHAPE)
    padding = torch.ones(SHAPE.batch, SHAPE.keys, dtype=torch.bool)
    padding[:, ::3] = False
    torch.manual_seed(7)
    expected = run(inputs, dropout_p=0.5, key_padding_mask=padding)
    spoiled = dict(inputs)
    for name in ("key", "value"):
        spoiled[name] = inputs[name].masked_fill(~padding[:, None, :, None], math.nan)
    torch.manual_seed(7)
    assert_same_result(run(spoiled, dropout_p=0.5, key_padding_mask=padding), expected)
