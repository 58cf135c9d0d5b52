"""Exact integers forward, gradients of real numbers backward."""

from __future__ import annotations

import torch

from inhibitor_transformers.deploy.encrypted.training.straight_through import clip_through, round_through, ternary


def test_round_through_rounds_as_rint_and_passes_gradients():
    x = torch.tensor([0.5, 1.5, -0.5, 2.4999, 1e-17], dtype=torch.float64, requires_grad=True)
    y = round_through(x)
    assert y.tolist() == [0, 2, 0, 2, 0]
    y.backward(torch.arange(5.0, dtype=torch.float64))
    assert x.grad.tolist() == [0, 1, 2, 3, 4]


def test_clip_through_lets_back_in_but_not_further_out():
    x = torch.tensor([-2.0, -2.0, 0.5, 3.0, 3.0], requires_grad=True)
    y = clip_through(x, -1, 1)
    assert y.tolist() == [-1, -1, 0.5, 1, 1]
    y.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))  # descent goes against it
    assert x.grad.tolist() == [0, -1, 1, 1, 0]


def test_ternary_keeps_the_greatest_of_each_sign():
    weight = torch.tensor([[0.9, 0.2], [0.8, 0.1], [0.7, -0.1], [-0.9, -0.5], [0.1, -0.6]], requires_grad=True)
    exact = ternary(weight, fan_in=2, threshold=0.3)
    assert exact.T.tolist() == [[1, 1, 0, -1, 0], [0, 0, 0, -1, -1]]
    exact.sum().backward()
    assert (weight.grad == 1).all()


def test_ternary_of_equal_weights_does_not_exceed_the_fan_in():
    assert ternary(torch.ones(8, 3), fan_in=5, threshold=0.3).sum(0).tolist() == [5, 5, 5]
