"""Every loss against its definition, written with loops in float64."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inhibitor_transformers.distill import losses


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(x - max(row)) for x in row]
    return [e / sum(exponentials) for e in exponentials]


def squared_error_by_hand(student: Tensor, teacher: Tensor, valid: Tensor, count: float) -> float:
    total = 0.0
    for b in range(student.shape[0]):
        for n in range(student.shape[1]):
            if valid[b, n]:
                differences = [(float(s) - float(t)) ** 2 for s, t in zip(student[b, n], teacher[b, n], strict=True)]
                total += sum(differences) / len(differences)
    return total / count


def divergence_by_hand(student: Tensor, teacher: Tensor, temperature: float, count: float) -> float:
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = softmax([x / temperature for x in s_row]), softmax([x / temperature for x in t_row])
        total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(q, p, strict=True))
    return temperature**2 * total / count


def cosine_by_hand(student: Tensor, teacher: Tensor, count: float) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        inner = sum(a * b for a, b in zip(s, t, strict=True))
        total += 1 - inner / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t))
    return total / count


def test_squared_error():
    student, teacher = random(3, 5, 7), random(3, 5, 7, seed=1)
    valid = torch.rand(3, 5, generator=torch.Generator().manual_seed(2)) < 0.6
    expected = squared_error_by_hand(student, teacher, valid, 11)
    assert float(losses.squared_error(student, teacher, valid, 11)) == pytest.approx(expected, rel=1e-6)


def test_squared_error_does_not_see_padding():
    student, teacher = random(2, 4, 3), random(2, 4, 3, seed=1)
    valid = torch.tensor([[True, True, False, False], [True, True, True, False]])
    expected = losses.squared_error(student, teacher, valid, 5)
    student[~valid], teacher[~valid] = math.nan, math.inf
    student.requires_grad_(True)
    error = losses.squared_error(student, teacher, valid, 5)
    (gradient,) = torch.autograd.grad(error, student)
    assert torch.equal(error, expected)
    assert torch.equal(gradient[~valid], torch.zeros_like(gradient[~valid]))
    assert gradient[valid].isfinite().all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_soft_target_divergence(temperature):
    student, teacher = random(6, 4), random(6, 4, seed=1)
    expected = divergence_by_hand(student, teacher, temperature, 9)
    found = float(losses.soft_target_divergence(student, teacher, temperature, 9))
    assert found == pytest.approx(expected, rel=1e-5)


def test_soft_targets_equal_to_the_teacher_cost_nothing():
    logits = random(6, 4)
    assert float(losses.soft_target_divergence(logits, logits + 5.0, 2.0, 6)) == pytest.approx(0.0, abs=1e-6)


def test_the_gradient_of_soft_targets_does_not_shrink_with_the_temperature():
    """Why T² stands there (Hinton et al., 2015): at high T the gradient tends to (s − t)/classes, whatever T is."""
    student, teacher = random(1, 5), random(1, 5, seed=1)
    student, teacher = student - student.mean(), teacher - teacher.mean()
    student.requires_grad_(True)
    (gradient,) = torch.autograd.grad(losses.soft_target_divergence(student, teacher, 500.0, 1), student)
    torch.testing.assert_close(gradient, (student - teacher).detach() / 5, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("classes", [1, 3])
def test_logit_error(classes):
    student, teacher = random(6, classes), random(6, classes, seed=1)
    valid = torch.ones(1, 6, dtype=torch.bool)
    expected = squared_error_by_hand(student[None], teacher[None], valid, 4)
    assert float(losses.logit_error(student, teacher, 4)) == pytest.approx(expected, rel=1e-6)


def test_cosine_distance():
    student, teacher = random(6, 9), random(6, 9, seed=1)
    found = float(losses.cosine_distance(student, teacher, 7))
    assert found == pytest.approx(cosine_by_hand(student, teacher, 7), rel=1e-5)


def test_cosine_distance_is_0_1_2_for_same_orthogonal_opposite_vectors():
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    student = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-2.0, 0.0]])
    found = [float(losses.cosine_distance(s[None], t[None], 1)) for s, t in zip(student, teacher, strict=True)]
    assert found == pytest.approx([0.0, 1.0, 2.0], abs=1e-6)


def test_cross_entropy():
    logits, labels = random(6, 4), torch.tensor([0, 3, -100, 1, -100, 2])
    expected = sum(
        -math.log(softmax(row)[label])
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
        if label != losses.IGNORED
    )
    assert float(losses.cross_entropy(logits, labels, 4)) == pytest.approx(expected / 4, rel=1e-6)


def test_regression_error():
    predictions, labels = random(5, 1), random(5, seed=1)
    expected = sum((float(p) - float(y)) ** 2 for p, y in zip(predictions, labels, strict=True)) / 5
    assert float(losses.regression_error(predictions, labels, 5)) == pytest.approx(expected, rel=1e-6)


def test_regression_error_of_one_row_is_one_number():
    assert losses.regression_error(torch.ones(1, 1), torch.zeros(1), 1).shape == ()


PARTS = {
    "squared_error": lambda rows: losses.squared_error(A3[rows], B3[rows], VALID[rows], 6),
    "soft_targets": lambda rows: losses.soft_target_divergence(A[rows], B[rows], 2.0, 6),
    "logit_error": lambda rows: losses.logit_error(A[rows], B[rows], 6),
    "cosine": lambda rows: losses.cosine_distance(A[rows], B[rows], 6),
    "cross_entropy": lambda rows: losses.cross_entropy(A[rows], LABELS[rows], 6),
    "regression": lambda rows: losses.regression_error(A[rows][:, :1], B[rows][:, 0], 6),
}
A, B = random(6, 4), random(6, 4, seed=1)
A3, B3 = random(6, 5, 4), random(6, 5, 4, seed=1)
VALID = torch.rand(6, 5, generator=torch.Generator().manual_seed(3)) < 0.5
LABELS = torch.tensor([0, 3, -100, 1, -100, 2])


@pytest.mark.parametrize("name", PARTS)
@given(cuts=st.sets(st.integers(1, 5)))
def test_parts_with_the_count_of_the_whole_add_up_to_it(name, cuts):
    loss, edges = PARTS[name], [0, *sorted(cuts), 6]
    parts = sum(float(loss(slice(a, b))) for a, b in pairwise(edges))
    assert parts == pytest.approx(float(loss(slice(0, 6))), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    teacher = torch.zeros(1, 4096, 8, dtype=dtype)
    student = torch.full_like(teacher, 0.5)
    valid = torch.ones(1, 4096, dtype=torch.bool)
    error = losses.squared_error(student, teacher, valid, 1)
    assert error.dtype == torch.float32
    assert float(error) == 4096 * 0.25  # bfloat16 would stop growing at 256 · 0.25
