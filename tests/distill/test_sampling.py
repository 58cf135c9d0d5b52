"""Length groups: every example once, little padding, and an order that seed and epoch alone decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inhibitor_transformers.distill.sampling import LengthGroups
from tests.distill.test_trainer import trainer
from tests.distill.tiny import bert

LENGTHS = np.random.default_rng(0).integers(5, 100, size=400).tolist()


def order(*, seed: int = 0, epoch: int = 0) -> list[int]:
    return list(LengthGroups(LENGTHS, 8, seed, lambda: epoch))


def test_every_example_once():
    assert sorted(order()) == list(range(len(LENGTHS)))
    assert len(LengthGroups(LENGTHS, 8, 0, lambda: 0)) == len(LENGTHS)


def test_neighbours_are_of_about_equal_length():
    def padding(indices: list[int]) -> float:
        groups = np.array([LENGTHS[i] for i in indices]).reshape(-1, 8)
        return 1 - groups.sum() / (groups.max(1).sum() * 8)

    assert padding(order()) < 0.1 < 0.3 < padding(list(range(len(LENGTHS))))


def test_seed_and_epoch_alone_decide():
    first = order(seed=1, epoch=2)
    torch.rand(3)  # as dropout does
    assert order(seed=1, epoch=2) == first
    assert first not in (order(seed=1, epoch=1), order(seed=2, epoch=2))


@pytest.mark.parametrize(("epoch", "expected"), [(None, 0), (1.0, 1), (1.5, 1)])
def test_the_trainer_asks_for_the_epoch_that_it_is_in(epoch, expected, tmp_path):
    """Also where it goes on in the middle of one."""
    items = [{"input_ids": list(range(length))} for length in LENGTHS]
    settings = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 4, "seed": 3}
    made = trainer(bert(), lambda *_: {}, tmp_path, items, gradient_accumulation_steps=2, **settings)
    sampler = made._get_train_sampler()
    made.state.epoch = epoch
    assert list(sampler) == order(seed=3, epoch=expected)
