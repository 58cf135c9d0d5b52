"""Training learns, and what it hands over is what it measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inhibitor_transformers.deploy.encrypted.encoders import WordEncoder
from inhibitor_transformers.deploy.encrypted.levels import ValueLevels
from inhibitor_transformers.deploy.encrypted.training.digits import Digits, pixel_order
from inhibitor_transformers.deploy.encrypted.training.recipe import Recipe
from inhibitor_transformers.deploy.encrypted.training.train import accuracy, train_classifier

QUICK = Recipe(restarts=2, real_steps=150, steps=250)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_quick_training_learns_digits_and_repeats():
    trained = train_classifier("digits", tied=True, recipe=QUICK)
    task = Digits()
    assert trained.scores["test"] > 0.6
    assert accuracy(trained.classifier, trained.encoder, task.test) == trained.scores["test"]
    assert accuracy(trained.classifier, trained.encoder, task.validation) == trained.scores["validation"]
    short = Recipe(restarts=1, real_steps=3, steps=3)
    heads = [train_classifier("digits", recipe=short, seed=seed).classifier.head for seed in (1, 1, 2)]
    assert np.array_equal(heads[0], heads[1])
    assert not np.array_equal(heads[0], heads[2])


@pytest.mark.slow
def test_digits_are_learned():
    assert train_classifier("digits", tied=True).scores["test"] >= 0.91


@pytest.mark.slow
def test_sst2_is_learned(shared_data):
    trained = train_classifier("sst2", tied=True, data=shared_data)
    assert isinstance(trained.encoder, WordEncoder)
    assert trained.scores["test"] >= 0.75


def test_splits_are_fixed_and_apart():
    first, second = Digits(), Digits(8)
    assert len(first.test.labels) == 360
    assert len(first.validation.labels) == 288
    assert np.array_equal(first.test.raw, second.test.raw)
    images = [tuple(image) for split in (first.test, first.validation) for image in split.raw]
    train = {tuple(image) for image in first._images[0].tolist()}
    assert len(train) + len(images) == 1797
    assert train.isdisjoint(images)


@pytest.mark.parametrize("tokens", [4, 8])
@pytest.mark.parametrize("layout", ["quadrants", "rows"])
def test_tokens_are_blocks_of_neighbors(tokens, layout):
    order = pixel_order(tokens, layout)
    assert sorted(order.flatten()) == list(range(64))
    rows, columns = order // 8, order % 8
    height, width = np.ptp(rows, axis=1) + 1, np.ptp(columns, axis=1) + 1
    assert (height * width == 64 // tokens).all()
    assert (width == (8 if layout == "rows" else 4)).all()


def test_batches_are_levels_as_the_encoder_makes_them():
    task = Digits()
    x, labels = task.batch(3, 5, torch.Generator().manual_seed(0))
    assert x.shape == (3, 5, 4, 16)
    assert labels.shape == (3, 5)
    assert set(x.unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "mnist"}, "task must be one of"),
        ({"task": "digits", "tokens": 5}, "4 or 8 tokens, got 5"),
        ({"task": "digits", "attention": "cosine"}, "attention must be one of"),
        ({"task": "sst2"}, "needs the folder of its Parquet files"),
        ({"task": "digits", "value_levels": ValueLevels(15)}, "more than 5"),
        ({"task": "digits", "levels": 9}, "more than 5"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(settings, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(**settings)
