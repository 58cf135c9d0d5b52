"""The stage align_hidden: its loss against a computation by hand, row by row without padding."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.stages.align_hidden import (
    AlignHidden,
    HiddenStateLoss,
    HiddenVariances,
    HiddenWeights,
    cls_states,
    hidden_variances,
)
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import map_layers
from tests.distill.by_hand import BATCHES, ROWS, all_rows, rows_of, squared, total, with_other_padding
from tests.distill.tiny import LAYERS, bert, equal_variances, narrow_student, padded_batch, pair


class TestHiddenStateLoss:
    @pytest.mark.parametrize(("cls_weight", "pooled_weight"), [(4.0, 8.0), (0.5, 0.25)])
    @pytest.mark.parametrize("layers", ["all", [1]])
    def test_by_hand(self, layers, cls_weight, pooled_weight):
        student, teacher, layer_map = pair(layers=layers)
        batch = padded_batch(ROWS)
        variances = HiddenVariances(
            [torch.rand(32) + 0.5 for _ in range(len(layer_map))], [3.0, 7.0][: len(layer_map)], 5.0
        )
        criterion = HiddenStateLoss(
            EncoderPairing(student, teacher, layer_map), variances, HiddenWeights(cls=cls_weight, pooled=pooled_weight)
        )
        terms = criterion(student, batch, 20.0)
        of_layers = [f"{kind}/layer_{i}" for kind in ("hidden", "cls") for i in range(len(layer_map))]
        assert sorted(terms) == sorted([*of_layers, "pooled"])
        for i, source in enumerate(layer_map.teacher_layers):
            error = first = text = 0.0
            for row in rows_of(batch):
                with torch.no_grad():
                    ours = student(row["input_ids"], output_hidden_states=True).hidden_states[i + 1]
                    theirs = teacher.model(row["input_ids"], output_hidden_states=True).hidden_states[source + 1]
                error += float(((ours.double() - theirs).square() / variances.tokens[i]).mean(-1).sum())
                first += squared(ours[:, :1], theirs[:, :1])
                text += squared(ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True))
            assert terms[f"hidden/layer_{i}"].item() == pytest.approx(error / 20, rel=1e-4)
            assert terms[f"cls/layer_{i}"].item() == pytest.approx(cls_weight * first / 20 / variances.cls[i], rel=1e-4)
        expected = pooled_weight * text / 20 / variances.pooled
        assert terms["pooled"].item() == pytest.approx(expected, rel=1e-4)  # of the last layer

    def test_without_the_first_token(self):
        student, teacher, layer_map = pair()
        terms = HiddenStateLoss(EncoderPairing(student, teacher, layer_map), equal_variances(layer_map))(
            student, padded_batch(ROWS), 34.0
        )
        assert list(terms) == ["hidden/layer_0", "hidden/layer_1"]

    def test_what_stands_in_padding_does_not_matter(self):
        student, teacher, layer_map = pair()
        criterion = HiddenStateLoss(
            EncoderPairing(student, teacher, layer_map), equal_variances(layer_map), HiddenWeights(cls=2.0, pooled=3.0)
        )
        batch = padded_batch(ROWS)
        first, second = criterion(student, batch, 34.0), criterion(student, with_other_padding(batch), 34.0)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_the_whole_student_is_trained(self):
        student, teacher, layer_map = pair()
        total(
            HiddenStateLoss(EncoderPairing(student, teacher, layer_map), equal_variances(layer_map))(
                student, padded_batch(ROWS), 34.0
            )
        ).backward()
        assert [name for name, p in student.named_parameters() if p.grad is None] == []

    def test_of_equal_widths_nothing_is_learned_along(self):
        student, teacher, layer_map = pair()
        assert (
            list(HiddenStateLoss(EncoderPairing(student, teacher, layer_map), equal_variances(layer_map)).parameters())
            == []
        )

    def test_of_different_widths_a_projection_per_layer_is_learned_along(self):
        teacher = Teacher(bert())
        student, layer_map = narrow_student(), map_layers("all", LAYERS)
        criterion = HiddenStateLoss(EncoderPairing(student, teacher, layer_map), equal_variances(layer_map))
        total(criterion(student, padded_batch(ROWS), 34.0)).backward()
        weights = dict(criterion.named_parameters())
        assert {name: tuple(p.shape) for name, p in weights.items()} == {
            f"projections.{i}.{kind}": shape
            for i in range(LAYERS)
            for kind, shape in [("weight", (32, 16)), ("bias", (32,))]
        }
        assert all(p.grad is not None and p.grad.any() for p in weights.values())

    def test_the_teacher_is_no_part_of_it(self):
        _, teacher, layer_map = pair()
        criterion = HiddenStateLoss(
            EncoderPairing(narrow_student(), teacher, layer_map), equal_variances(layer_map)
        ).train()
        assert not teacher.model.training
        assert all(name.startswith("projections.") for name in criterion.state_dict())


def test_the_stage_trains_all_but_the_embeddings():
    student, teacher, layer_map = pair()
    AlignHidden(output_dir="unused").select_trainable(EncoderPairing(student, teacher, layer_map))
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert frozen
    assert frozen == {name for name, _ in student.named_parameters() if name.startswith("embeddings.")}


def test_variances_of_hidden_states_are_taken_over_valid_tokens():
    teacher, layer_map = Teacher(bert()), map_layers([1], LAYERS)
    with torch.no_grad():  # or a mean square would be 1, as LayerNorm starts
        teacher.model.encoder.layer[1].output.LayerNorm.weight.mul_(3.0)
    states = [teacher(row, hidden=True).hidden[2][0].double() for row in all_rows()]
    every, first = torch.cat(states), torch.stack([s[0] for s in states])
    variance, alone = every.var(0, correction=0), first.var(0, correction=0).mean()
    found = hidden_variances(EncoderPairing(bert(), teacher, layer_map), list(BATCHES))
    torch.testing.assert_close(found.tokens[0].double(), variance + 0.05 * variance.mean(), rtol=1e-4, atol=1e-6)
    assert found.cls == pytest.approx([float(alone + 0.02 * every.square().mean())], rel=1e-4)
    texts = torch.stack([s.mean(0) for s in states]).var(0, correction=0).mean()
    assert found.pooled == pytest.approx(float(texts + 0.02 * every.square().mean()), rel=1e-4)


def test_the_first_token_comes_after_padding_on_the_left():
    states = torch.arange(12.0).reshape(2, 3, 2)
    valid = torch.tensor([[True, True, False], [False, True, True]])
    assert cls_states(states, valid).tolist() == [[[0.0, 1.0]], [[8.0, 9.0]]]
