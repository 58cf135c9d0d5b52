"""Calibration finds the best of its grid, per head, and sets exactly that."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.stages import calibration as module
from inhibitor_transformers.distill.stages.align_attention import AttentionOutputLoss
from inhibitor_transformers.distill.stages.calibration import (
    DELTA_GRID,
    GAMMA_GRID,
    LENGTH_EXPONENT_GRID,
    Calibration,
    Grid,
    calibrate,
)
from inhibitor_transformers.distill.teacher.teacher import TeacherOutputs
from inhibitor_transformers.models import InhibiDistilBertModel, LayerMap
from tests.distill.formula import heads, one_head
from tests.distill.tiny import HEADS, LAYERS, WIDTH, padded_batch, pair

LENGTHS = (8, 16, 32)
SIZE = WIDTH // HEADS
SCALARS = ("gamma", "delta", "eta", "length_exponent")


def batches(lengths: tuple[int, ...] = LENGTHS, rows: int = 3) -> list[dict[str, Tensor]]:
    return [padded_batch([n] * rows, seed=n) for n in lengths]


class Head:
    """q, k, v and the teacher's context of one head of one layer, per text length, in float64."""

    def __init__(self, student, teacher, layer: int, head: int, lengths=LENGTHS) -> None:
        attention = student.base_model.transformer.layer[layer].attention
        self.n0 = attention.inhibitor.length_reference
        self.parts = []
        for batch in batches(lengths):
            teacher_outputs = teacher(batch, attention_outputs=True, hidden=True)
            with torch.no_grad():
                q, k, v = (heads(lin(teacher_outputs.hidden[layer])) for lin in self.projections(attention))
            self.parts.append([x[:, head] for x in (q, k, v, heads(teacher_outputs.attention_outputs[layer]))])

    @staticmethod
    def projections(attention):
        return attention.q_lin, attention.k_lin, attention.v_lin

    def error(self, gamma: float, delta: float, eta: float, rho: float) -> float:
        """Relative squared error, mean over the lengths."""
        errors = []
        for q, k, v, target in self.parts:
            context = one_head(q, k, v, gamma, delta, eta, rho, self.n0)
            errors.append(float((context - target).square().sum() / target.square().sum()))
        return sum(errors) / len(errors)

    def best_of_the_grid(self) -> float:
        """Every γ, δ, ρ of the grid, η where the error's parabola has its minimum."""
        mean_v = sum(float(v.abs().mean()) for _, _, v, _ in self.parts) / len(self.parts)
        spread = 0.0
        for q, k, _, _ in self.parts:
            s = (q[:, :, None] - k[:, None]).abs().sum(-1) / SIZE**0.5
            spread += float((s - s.mean(-1, keepdim=True)).abs().mean()) / len(self.parts)
        errors = []
        for g, d, rho in itertools.product(GAMMA_GRID, DELTA_GRID, LENGTH_EXPONENT_GRID):
            at = [self.error(g * mean_v / spread, d * mean_v, eta, rho) for eta in (-1.0, 0.0, 1.0)]
            curvature, slope = (at[2] + at[0] - 2 * at[1]) / 2, (at[2] - at[0]) / 2
            errors.append(at[1] - slope**2 / (4 * curvature) if curvature > 0 else at[1])
        return min(errors)


def scalars_of(student, layer: int, head: int) -> list[float]:
    inhibitor = student.base_model.transformer.layer[layer].attention.inhibitor
    return [getattr(inhibitor, name)[head].item() for name in SCALARS]


@pytest.fixture(scope="module")
def calibrated() -> tuple:
    torch.manual_seed(0)
    student, teacher, layer_map = pair()
    start = [[scalars_of(student, i, h) for h in range(HEADS)] for i in range(LAYERS)]
    return student, teacher, calibrate(student, teacher, layer_map, batches()), start


def test_errors_come_per_layer_and_head(calibrated):
    *_, result, _ = calibrated
    for errors in (result.before, result.relative_error):
        assert [len(layer) for layer in errors] == [HEADS] * LAYERS


@pytest.mark.parametrize(("layer", "head"), [(0, 0), (1, 3)])
def test_before_and_after_are_the_errors_of_the_formula(calibrated, layer, head):
    student, teacher, result, start = calibrated
    by_formula = Head(student, teacher, layer, head)
    assert result.before[layer][head] == pytest.approx(by_formula.error(*start[layer][head]), rel=1e-4)
    found = scalars_of(student, layer, head)
    assert result.relative_error[layer][head] == pytest.approx(by_formula.error(*found), rel=1e-3)


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 2)])
def test_no_point_of_the_grid_is_better(calibrated, layer, head):
    student, teacher, result, _ = calibrated
    best = Head(student, teacher, layer, head).best_of_the_grid()
    assert result.relative_error[layer][head] == pytest.approx(best, rel=1e-3)


def test_every_head_gets_better(calibrated):
    *_, result, _ = calibrated
    before, after = (torch.tensor(errors) for errors in (result.before, result.relative_error))
    assert (after < before).all()
    assert (after < 1).all()  # an empty context would have 1


@pytest.mark.parametrize(("layer", "head"), [(0, 0), (1, 1)])
def test_eta_is_the_least_squares_optimum(calibrated, layer, head):
    student, teacher, *_ = calibrated
    by_formula = Head(student, teacher, layer, head)
    gamma, delta, eta, rho = scalars_of(student, layer, head)
    here = by_formula.error(gamma, delta, eta, rho)
    assert all(by_formula.error(gamma, delta, eta * factor, rho) > here for factor in (0.98, 1.02))


def test_scalars_lie_on_the_grid(calibrated):
    student, teacher, *_ = calibrated
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        gamma, delta, _, rho = scalars_of(student, layer, head)
        by_formula = Head(student, teacher, layer, head)
        unit_v = sum(float(v.abs().mean()) for _, _, v, _ in by_formula.parts) / len(LENGTHS)
        assert rho in LENGTH_EXPONENT_GRID
        assert gamma > 0
        assert min(abs(delta / unit_v - d) for d in DELTA_GRID) < 1e-4


def test_nothing_but_the_scalars_changes():
    student, teacher, layer_map = pair()
    before = {name: p.clone() for name, p in student.named_parameters()}
    calibrate(student, teacher, layer_map, batches())
    changed = {name for name, p in student.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all(".inhibitor." in name for name in changed)


def test_calibrating_again_changes_nothing():
    student, teacher, layer_map = pair()
    first = calibrate(student, teacher, layer_map, batches())
    second = calibrate(student, teacher, layer_map, batches())
    for errors in (second.before, second.relative_error):
        torch.testing.assert_close(torch.tensor(errors), torch.tensor(first.relative_error), rtol=1e-4, atol=1e-5)


def test_a_head_that_the_grid_cannot_better_keeps_its_scalars():
    """After training, scalars lie between the points of the grid: calibrating then once made heads worse."""
    student, teacher, layer_map = pair()
    calibrate(student, teacher, layer_map, batches())
    inhibitor = student.base_model.transformer.layer[0].attention.inhibitor
    by_formula = Head(student, teacher, 0, 0)
    start = scalars_of(student, 0, 0)
    better = min(
        ([start[0] * g, start[1], start[2] * e, start[3]] for g in (0.9, 0.95, 1.05, 1.1) for e in (0.95, 1.0, 1.05)),
        key=lambda s: by_formula.error(*s),
    )
    assert by_formula.error(*better) < by_formula.error(*start)
    with torch.no_grad():
        for name, value in zip(SCALARS, better, strict=True):
            getattr(inhibitor, name)[0] = value
    result = calibrate(student, teacher, layer_map, batches())
    assert scalars_of(student, 0, 0) == pytest.approx(better)
    assert result.relative_error[0][0] == result.before[0][0]


def test_gamma_is_in_units_of_each_head_s_own_distances():
    (usual, teacher, layer_map), (wide, *_) = pair(), pair()
    attention = wide.transformer.layer[0].attention
    with torch.no_grad():
        for linear in (attention.q_lin, attention.k_lin):
            linear.weight[:SIZE] *= 4
            linear.bias[:SIZE] *= 4
    one, other = (calibrate(student, teacher, layer_map, batches((16,))) for student in (usual, wide))
    assert other.relative_error[0] == pytest.approx(one.relative_error[0], rel=1e-5)
    found = scalars_of(usual, 0, 0)
    assert scalars_of(wide, 0, 0) == pytest.approx([found[0] / 4, *found[1:]], rel=1e-5)


def test_a_grid_that_lets_nothing_pass_leaves_finite_scalars():
    """There least squares have nothing to fit η to."""
    student, teacher, layer_map = pair()
    with torch.no_grad():
        for layer in student.transformer.layer:  # or its own scalars would be better
            layer.attention.inhibitor.eta.fill_(1e3)
    result = calibrate(student, teacher, layer_map, batches((8,)), Grid((1.0,), (1e6,), (0.5,)))
    assert result.relative_error == [[1.0] * HEADS] * LAYERS
    assert [scalars_of(student, i, h)[2:] for i in range(LAYERS) for h in range(HEADS)] == [[1.0, 0.5]] * LAYERS * HEADS


def test_of_exponents_that_make_no_difference_the_first_is_taken():
    """At n₀ tokens (n₀/n)^ρ is 1."""
    student, teacher, layer_map = pair()
    calibrate(student, teacher, layer_map, batches((64,)), Grid((0.5,), (0.5,), (0.25, 0.0, 1.0)))
    assert [scalars_of(student, i, h)[3] for i in range(LAYERS) for h in range(HEADS)] == [0.25] * LAYERS * HEADS


def test_a_padded_batch_is_refused():
    student, teacher, layer_map = pair()
    with pytest.raises(ValueError, match="without padding"):
        calibrate(student, teacher, layer_map, [padded_batch([8, 8]), padded_batch([8, 6])])


def test_layers_are_matched_by_the_plan():
    alone, teacher, layer_map = pair(layers=[1])
    both, _, full = pair()
    one, two = calibrate(alone, teacher, layer_map, batches()), calibrate(both, teacher, full, batches())
    assert one == Calibration([two.before[1]], [two.relative_error[1]])
    assert scalars_of(alone, 0, 2) == scalars_of(both, 1, 2)


@pytest.mark.parametrize(
    "settings", [{"inhibitor_signed": False}, {"inhibitor_center": "none"}, {"inhibitor_value_center": "mean"}]
)
def test_the_student_s_own_variant_is_calibrated(settings):
    _, teacher, layer_map = pair()
    student = InhibiDistilBertModel.from_teacher(teacher.model, **settings)
    (batch,) = batches((16,))
    attention_outputs = teacher(batch, attention_outputs=True).attention_outputs
    variances = [float(c.square().mean()) for c in attention_outputs]
    criterion = AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), variances)

    @torch.no_grad()
    def relative_errors() -> list[float]:
        return [term.item() for term in criterion(student, batch, batch["attention_mask"].sum()).values()]

    before = relative_errors()
    result = calibrate(student, teacher, layer_map, [batch])
    for terms, by_head in ((before, result.before), (relative_errors(), result.relative_error)):
        for i, term in enumerate(terms):
            energies = heads(attention_outputs[i]).square().sum((0, 2, 3))
            expected = float((torch.tensor(by_head[i]).double() * energies).sum() / energies.sum())
            assert term == pytest.approx(expected, rel=1e-4)


class SyntheticTeacher:
    """Hands out contexts that inhibitor attention with known scalars makes of the real layer inputs."""

    def __init__(self, teacher, student, gamma: float, delta: float, eta: float, rho: float) -> None:
        self.teacher, self.student, self.known = teacher, student, (gamma, delta, eta, rho)

    def __call__(self, batch, **asked) -> TeacherOutputs:
        hidden = self.teacher(batch, hidden=True).hidden
        attention_outputs = []
        for i, block in enumerate(self.student.transformer.layer):
            attention = block.attention
            q, k, v = (heads(lin(hidden[i])) for lin in Head.projections(attention))
            n0 = attention.inhibitor.length_reference
            made = [one_head(q[:, h], k[:, h], v[:, h], *self.known, n0) for h in range(HEADS)]
            attention_outputs.append(torch.cat(made, dim=-1).float())
        return TeacherOutputs(hidden=hidden, attention_outputs=tuple(attention_outputs))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.75, 1.0])
def test_the_length_exponent_of_a_teacher_that_depends_on_length_is_found(rho):
    student, teacher, layer_map = pair()
    synthetic = SyntheticTeacher(teacher, student, gamma=0.5, delta=0.1, eta=0.2, rho=rho)
    calibrate(student, synthetic, layer_map, batches((8, 32, 128)))
    found = [scalars_of(student, i, h)[3] for i in range(LAYERS) for h in range(HEADS)]
    # γ and δ of the grid are not exactly those of the teacher, which a neighboring ρ may make up for
    assert sum(found) / len(found) == pytest.approx(rho, abs=0.1)
    assert found.count(rho) >= len(found) / 2


def test_scalars_on_the_grid_are_found_exactly(monkeypatch):
    student, teacher, _ = pair()
    known = {"gamma": 0.4, "delta": 0.2, "eta": -0.3, "rho": 0.625}
    synthetic = SyntheticTeacher(teacher, student, **known)
    monkeypatch.setattr(module, "_score_deviation", lambda layer: torch.full((HEADS,), 1.0))
    units = [_mean_v(student, synthetic, i) for i in range(LAYERS)]
    gammas, deltas = (0.01, *(float(0.4 / u) for u in units[0])), (0.3, *(float(0.2 / u) for u in units[0]))
    result = calibrate(student, synthetic, LayerMap((0, 1), 2), batches(), Grid(gammas, deltas))
    for head in range(HEADS):
        assert scalars_of(student, 0, head) == pytest.approx([0.4, 0.2, -0.3, 0.625], rel=1e-4)
    assert max(result.relative_error[0]) < 1e-5


def _mean_v(student, teacher, layer: int) -> Tensor:
    attention = student.transformer.layer[layer].attention
    means = []
    for batch in batches():
        with torch.no_grad():
            v = heads(attention.v_lin(teacher(batch).hidden[layer]))
        means.append(v.abs().mean((0, 2, 3)))
    return torch.stack(means).mean(0)


def test_a_teacher_whose_outputs_are_not_finite():
    """It ended in "relative error of the contexts nan -> nan", and exit status 0."""
    student, teacher, layer_map = pair()
    with torch.no_grad():
        teacher.model.encoder.layer[0].output.dense.weight.fill_(1e38)
    with pytest.raises(ValueError, match="teacher layer 1: its query is not finite at 8 tokens"):
        calibrate(student, teacher, layer_map, batches((8,)))


def test_a_student_whose_errors_are_not_finite():
    student, teacher, layer_map = pair()
    with torch.no_grad():
        for name in ("gamma", "delta", "eta"):
            getattr(student.transformer.layer[0].attention.inhibitor, name).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"layer 0 ends in errors that are not finite \((nan, ){3}nan\)"):
        calibrate(student, teacher, layer_map, batches((8,)))


def test_a_head_that_was_pruned_stays_silent():
    """Its context is zero: the relative error was 0/0."""
    student, teacher, layer_map = pair()
    with torch.no_grad():
        for value in (
            teacher.model.encoder.layer[0].attention.self.value,
            student.transformer.layer[0].attention.v_lin,
        ):
            value.weight[:SIZE] = 0.0
            value.bias[:SIZE] = 0.0
    result = calibrate(student, teacher, layer_map, batches((8,)))
    assert result.relative_error[0][0] == pytest.approx(0.0, abs=1e-12)
    assert all(0 < error < 1 for error in result.relative_error[0][1:])
