"""Words, splits and batches of SST-2, on a few sentences."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from inhibitor_transformers.deploy.encrypted.training.recipe import Recipe
from inhibitor_transformers.deploy.encrypted.training.sst2 import INPUTS, Sst2
from inhibitor_transformers.deploy.encrypted.training.train import train_classifier

NAMES = ["film", "plot", "actor", "scene", "story", "music", "ending", "cast", "script", "tone"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sst2")
    kinds = (("good", 1), ("bad", 0))
    sentences = [
        (f"number {a} and a {word} {b} with {c} in the {a}", label)
        for a in NAMES
        for b in NAMES
        for c in NAMES[:5]
        for word, label in kinds
    ]
    rows = {"train": [*sentences, *((f"{word} {name}", label) for name in NAMES for word, label in kinds)]}
    rows["validation"] = [("a good thing", 1), ("bad thing", 0), ("no word at all", 0)]
    for split, found in rows.items():
        texts, labels = zip(*found, strict=True)
        table = pa.table({"sentence": texts, "label": pa.array(labels, pa.int64()), "idx": range(len(texts))})
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


def test_splits_share_no_five_words(folder):
    task = Sst2(folder, tokens=3)
    assert task.test.raw == ["a good thing", "bad thing", "no word at all"]
    assert task.test.labels.tolist() == [1, 0, 0]
    assert 0 < len(task.validation.labels) < 1000
    held = {tuple(text.split()[i : i + 5]) for text in task.validation.raw for i in range(len(text.split()) - 4)}
    assert ("number", "film", "and", "a", "good") in held
    # What is left shares no five words with it: in these sentences, the phrases alone.
    assert len(task._labels) == 20
    assert task.encoder.words[0] in ("good", "bad")


def test_batches_are_words_some_of_them_left_out(folder):
    numbers, labels = Sst2(folder, tokens=3).batch(2, 500, torch.Generator().manual_seed(0))
    assert numbers.shape == (2, 500, 3)
    assert labels.shape == (2, 500)
    assert 0 < (numbers[..., 0] == -1).double().mean() < 0.3
    assert (numbers[..., 2] == -1).all()


def test_a_quick_training_makes_the_levels_of_words(folder):
    recipe = Recipe(restarts=2, real_steps=60, steps=60, batch=16)
    trained = train_classifier("sst2", tied=True, tokens=3, data=folder, recipe=recipe)
    assert trained.encoder.levels.shape == (len(trained.encoder.words), INPUTS)
    assert trained.encoder.levels.any()
    assert trained.scores["validation"] > 0.9
    assert trained.encoder.encode(["xyz"]).shape == (1, 3, INPUTS)
    assert not trained.encoder.encode(["xyz"]).any()
