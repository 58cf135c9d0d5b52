"""The range that 8 bits cover."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.deploy.quantize.ranges import InputRange


def test_without_outliers_the_whole_range():
    watched = InputRange()
    watched.add(torch.linspace(-1, 3, 4000).view(100, 40))
    assert watched.best() == (-1.0, 3.0)


def test_a_rare_outlier_is_clipped():
    torch.manual_seed(0)
    watched, x = InputRange(), torch.randn(500, 40)
    x[7, 3] = 60.0
    watched.add(x)
    low, high = watched.best()
    assert low < -2
    assert high < 60


def test_the_range_is_that_of_all_batches():
    watched = InputRange()
    for value in (1.0, -5.0, 2.0):
        watched.add(torch.full((4, 3), value))
    assert watched.low.tolist() == [-5.0] * 3
    assert watched.high.tolist() == [2.0] * 3


def test_sizes_are_shared_between_inputs_and_weights():
    watched = InputRange()
    watched.add(torch.tensor([[1.0, -100.0]]))
    sizes = watched.sizes(torch.ones(4, 2))
    assert torch.allclose(sizes, torch.tensor([1.0, 100**0.7]))
    assert watched.best(sizes)[0] < -3


def test_what_cannot_be_a_range():
    with pytest.raises(ValueError, match="no inputs were seen"):
        InputRange().best()
    with pytest.raises(ValueError, match="not finite"):
        InputRange().add(torch.tensor([[1.0, torch.nan]]))
