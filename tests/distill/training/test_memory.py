"""The memory that is announced before a run."""

from __future__ import annotations

import pytest

from inhibitor_transformers.distill.training.memory import MemoryEstimate, estimate_memory
from tests.distill.tiny import FEED_FORWARD, LAYERS, WIDTH, pair


def test_weights_of_both_and_three_more_of_what_is_trained():
    student, teacher, _ = pair()
    for parameter in student.transformer.layer[0].parameters():
        parameter.requires_grad_(False)
    estimate = estimate_memory(student, teacher.model, student.config, 1000)
    ours, theirs = (sum(p.numel() for p in m.parameters()) for m in (student, teacher.model))
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert 0 < trained < ours
    assert estimate.weights == 4 * (ours + theirs)
    assert estimate.gradients_and_optimizer == 12 * trained
    assert estimate.total == estimate.weights + estimate.gradients_and_optimizer + estimate.activations


def test_without_a_teacher():
    student, *_ = pair()
    assert estimate_memory(student, None, student.config, 1).weights == 4 * sum(p.numel() for p in student.parameters())


def test_activations_grow_with_the_tokens_and_hold_what_backward_needs():
    student, teacher, _ = pair()
    one, two = (estimate_memory(student, None, student.config, n).activations for n in (500, 1000))
    assert two == 2 * one
    kept = LAYERS * (4 * WIDTH + FEED_FORWARD)  # q, k, v, the context and the feed-forward part at the very least
    assert one > 4 * 500 * kept
    # the teacher's configuration gives the same, by its own names
    assert estimate_memory(teacher.model, None, teacher.model.config, 500).activations == one


def test_it_is_one_line_in_gib():
    line = str(MemoryEstimate(weights=2**30, gradients_and_optimizer=3 * 2**30, activations=2**29))
    assert line == "memory, estimated: 4.50 GiB (weights 1.00, gradients + AdamW 3.00, activations 0.50)"


@pytest.mark.parametrize("tokens", [0, 1])
def test_hardly_any_tokens(tokens):
    student, *_ = pair()
    assert estimate_memory(student, None, student.config, tokens).activations < 2**20
