"""Quantization parameters as part of a model."""

from __future__ import annotations

import copy

import pytest
import torch

from inhibitor_transformers.attention.integer import QuantizedScalars
from tests.attention.engine_cases import Shape
from tests.attention.integer.cases import random_qparams

SHAPE = Shape(batch=1, heads=4, kv_heads=2, queries=1, keys=1, dim=8, value_dim=8)


@pytest.fixture
def module() -> QuantizedScalars:
    made = QuantizedScalars(4, 2, 8)
    made.assign(random_qparams(SHAPE, 8))
    return made


def test_assigned_qparams_come_back(module):
    qparams, ours = random_qparams(SHAPE, 8), module.qparams
    assert all(torch.equal(getattr(ours, name), getattr(qparams, name)) for name, _ in module.named_buffers())
    assert module.qparams is ours  # checked once


def test_everything_is_saved(module):
    other = QuantizedScalars(4, 2, 8)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.qparams.factors(9), module.qparams.factors(9))


def test_loading_makes_new_factors(module):
    before = module.qparams.factors(9).clone()
    module.load_state_dict({name: t * 2 if name == "scale" else t for name, t in module.state_dict().items()})
    assert torch.equal(module.qparams.factors(9), before * 2)


@pytest.mark.parametrize("inference", [False, True])
def test_changes_in_place_are_seen(inference):
    with torch.inference_mode(inference):
        module = QuantizedScalars(4, 2, 8)
        module.assign(random_qparams(SHAPE, 8))
        for name in ("scale", "length_exponent"):
            before = module.qparams.factors(9).clone()
            getattr(module, name).mul_(2).add_(0.25)
            assert torch.equal(module.qparams.factors(9), copy.deepcopy(module).qparams.factors(9))
            assert not torch.equal(module.qparams.factors(9), before)
        module.shift.fill_(99)
        with pytest.raises(ValueError, match="shift must lie in"):
            _ = module.qparams


def test_changes_of_qparams_alone_are_seen():
    qparams = random_qparams(SHAPE, 8)
    before = qparams.factors(9).clone()
    qparams.scale.mul_(2)
    assert torch.equal(qparams.factors(9), before * 2)


def test_copies_are_independent(module):
    module.qparams.factors(9)
    other = copy.deepcopy(module)
    other.scale.mul_(2)
    assert torch.equal(module.qparams.scale * 2, other.qparams.scale)


def test_empty_qparams_are_refused():
    with pytest.raises(ValueError, match="inverse_step must be positive"):
        _ = QuantizedScalars(4, 2, 8).qparams


def test_split_features_are_saved():
    made, other = (QuantizedScalars(4, 2, 8, features=11) for _ in range(2))
    made.assign(random_qparams(SHAPE, 8, extra=3))
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.qparams.source, made.qparams.source)
    assert other.qparams.dim == 8
    with pytest.raises(RuntimeError, match="size mismatch"):
        QuantizedScalars(4, 2, 8).load_state_dict(made.state_dict())


def test_qparams_of_another_kind_are_refused(module):
    with pytest.raises(ValueError, match=r"the layer has 8 bits and n₀ = 64\.0, the QuantParams have others"):
        module.assign(random_qparams(SHAPE, 16))
    with pytest.raises(RuntimeError, match="size"):
        module.assign(random_qparams(Shape(1, 4, 2, 1, 1, 9, 8), 8))
