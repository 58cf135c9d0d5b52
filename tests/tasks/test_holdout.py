"""Held-out examples: stratified, repeatable, never trained on."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from inhibitor_transformers.tasks.holdout import hold_out, ordered_subset, shuffled_subset
from inhibitor_transformers.tasks.registry import get_task


def sorted_by_label(counts):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return Dataset.from_dict({"text": [f"text {i}" for i in range(len(labels))], "label": labels})


def test_a_fifth_of_each_class():
    train, held = hold_out(sorted_by_label([50, 100]), get_task("imdb"), seed=0, source="x")
    assert (np.bincount(train["label"][:]).tolist(), np.bincount(held["label"][:]).tolist()) == ([40, 80], [10, 20])


def test_the_seed_decides():
    dataset = sorted_by_label([50, 50])
    first, again, other = (hold_out(dataset, get_task("imdb"), seed=s, source="x")[1]["text"][:] for s in (0, 0, 1))
    assert first == again != other


def test_a_class_of_two_is_on_both_sides():
    train, held = hold_out(sorted_by_label([20, 2]), get_task("imdb"), seed=0, source="x")
    assert (train["label"][:].count(1), held["label"][:].count(1)) == (1, 1)


@settings(deadline=None, max_examples=30)
@given(copies=st.lists(st.integers(1, 4), min_size=6, max_size=30), seed=st.integers(0, 1000))
def test_every_row_on_one_side_and_no_text_on_both(copies, seed):
    texts = [f"text {i}" for i, count in enumerate(copies) for _ in range(count)]
    labels = [i % 2 for i, count in enumerate(copies) for _ in range(count)]
    dataset = Dataset.from_dict({"text": texts, "label": labels})
    train, held = hold_out(dataset, get_task("imdb"), seed=seed, source="x")
    assert not set(train["text"][:]) & set(held["text"][:])
    assert sorted([*train["text"][:], *held["text"][:]]) == sorted(texts)


def test_identical_texts_with_different_labels_stay_together():
    dataset = Dataset.from_dict({"text": ["same"] * 10 + [f"t{i}" for i in range(10)], "label": [0, 1] * 10})
    for seed in range(10):
        train, held = hold_out(dataset, get_task("imdb"), seed=seed, source="x")
        assert ("same" in train["text"][:]) != ("same" in held["text"][:])


def test_a_pair_is_identical_when_both_texts_are():
    pairs = {"sentence1": ["same"] * 20, "sentence2": [f"t{i}" for i in range(20)], "label": [i / 4 for i in range(20)]}
    train, held = hold_out(Dataset.from_dict(pairs), get_task("stsb"), seed=0, source="x")
    assert (len(train), len(held)) == (16, 4)


def test_too_few_rows():
    with pytest.raises(ValueError, match=r"a.csv: 2 example\(s\) are too few to hold some out"):
        hold_out(sorted_by_label([1, 1]), get_task("imdb"), seed=0, source="a.csv")


def test_subsets():
    dataset = sorted_by_label([30, 30])
    everything = shuffled_subset(dataset, None, 0)["text"][:]
    assert everything != dataset["text"][:]
    assert sorted(everything) == sorted(dataset["text"][:])
    assert shuffled_subset(dataset, 7, 0)["text"][:] == everything[:7]
    chosen = ordered_subset(dataset, 7, 0)["text"][:]
    assert len(set(chosen)) == 7
    assert chosen == [text for text in dataset["text"][:] if text in chosen]
    assert ordered_subset(dataset, 60, 0) is dataset
    assert ordered_subset(dataset, None, 0) is dataset
