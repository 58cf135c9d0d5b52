"""What all trained stages share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from inhibitor_transformers.distill.stages.base import statistics_batches


@pytest.mark.parametrize(("held", "read"), [(1, 1), (16, 16), (17, 16)])
def test_statistics_are_taken_from_the_first_sixteen_batches(held, read):
    """On the device of the student, whatever the data set's."""
    dataset = [{"input_ids": torch.full((1, 2), i)} for i in range(held)]
    context = SimpleNamespace(student=SimpleNamespace(device=torch.device("meta")))
    batches = statistics_batches(context, dataset)
    assert len(batches) == read
    assert all(batch["input_ids"].device.type == "meta" for batch in batches)
    context.student.device = torch.device("cpu")
    assert [int(batch["input_ids"][0, 0]) for batch in statistics_batches(context, dataset)] == list(range(read))
