"""Images and recordings as batches: each once an epoch, the same for the same index, without their labels."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.distill.examples import ExampleBatches


class Numbers:
    """Ten examples, which say which they are."""

    def __len__(self) -> int:
        return 10

    def batch(self, indices):
        return {"pixel_values": torch.tensor(indices), "labels": torch.tensor(indices)}


def test_an_epoch_holds_each_example_once():
    batches = ExampleBatches(Numbers(), steps=6, size=3, seed=1)
    drawn = [batches[i]["pixel_values"].tolist() for i in range(6)]
    first, second = drawn[:3], drawn[3:]
    for epoch in (first, second):
        assert len({i for batch in epoch for i in batch}) == 9
    assert first != second
    assert len(batches) == 6


def test_an_item_is_the_same_whenever_it_is_asked_for():
    one, other = (ExampleBatches(Numbers(), steps=9, size=3, seed=1) for _ in range(2))
    for i in (8, 0, 4):
        assert torch.equal(one[i]["pixel_values"], other[i]["pixel_values"])


def test_labels_say_only_that_examples_count():
    assert ExampleBatches(Numbers(), steps=1, size=4)[0]["labels"].tolist() == [0, 0, 0, 0]


def test_a_batch_of_more_than_there_are():
    with pytest.raises(ValueError, match=r"examples_per_step \(11\) is more than the 10 examples that there are"):
        ExampleBatches(Numbers(), steps=1, size=11)
