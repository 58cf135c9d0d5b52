"""The stage align_attention: its loss against a computation by hand, row by row without padding."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.stages.align_attention import (
    AlignAttention,
    AttentionOutputLoss,
    attention_output_errors,
    attention_output_mean_squares,
)
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import map_layers
from tests.distill.by_hand import BATCHES, ROWS, all_rows, rows_of, squared, with_other_padding
from tests.distill.formula import attention_output
from tests.distill.tiny import LAYERS, bert, padded_batch, pair


class TestAttentionOutputLoss:
    @pytest.mark.parametrize("layers", ["all", [1]])
    def test_by_hand(self, layers):
        student, teacher, layer_map = pair(layers=layers)
        batch, variances = padded_batch(ROWS), [2.0, 5.0][: len(layer_map)]
        terms = AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), variances)(student, batch, 20.0)
        assert list(terms) == [f"attention/layer_{i}" for i in range(len(layer_map))]
        for i, source in enumerate(layer_map.teacher_layers):
            attention, error = student.transformer.layer[i].attention, 0.0
            for row in rows_of(batch):
                teacher_outputs = teacher(row, attention_outputs=True, hidden=True)
                error += squared(
                    attention_output(attention, teacher_outputs.hidden[source]).detach(),
                    teacher_outputs.attention_outputs[source],
                )
            assert terms[f"attention/layer_{i}"].item() == pytest.approx(error / 20 / variances[i], rel=1e-4)

    def test_what_stands_in_padding_does_not_matter(self):
        student, teacher, layer_map = pair()
        criterion, batch = (
            AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0]),
            padded_batch(ROWS),
        )
        first, second = criterion(student, batch, 34.0), criterion(student, with_other_padding(batch), 34.0)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_each_layer_trains_its_own_q_k_v_and_scalars(self):
        student, teacher, layer_map = pair()
        terms = AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0])(
            student, padded_batch(ROWS), 34.0
        )
        for i, term in enumerate(terms.values()):
            student.zero_grad()
            term.backward()
            got = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
            expected = {f"{part}_lin.{kind}" for part in "qkv" for kind in ("weight", "bias")}
            expected |= {f"inhibitor.{name}" for name in ("gamma", "delta", "eta", "length_exponent")}
            assert got == {f"transformer.layer.{i}.attention.{name}" for name in expected}

    def test_parts_of_a_batch_with_the_count_of_the_whole_add_up(self):
        student, teacher, layer_map = pair()
        criterion, batch = (
            AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0]),
            padded_batch(ROWS),
        )
        whole = criterion(student, batch, 34.0)
        parts = [criterion(student, row, 34.0) for row in rows_of(batch)]
        for name, term in whole.items():
            assert term.item() == pytest.approx(sum(part[name].item() for part in parts), rel=1e-4)

    def test_no_hook_is_left_behind(self):
        student, teacher, layer_map = pair()
        AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0])(student, padded_batch(ROWS), 34.0)
        assert not any(module._forward_pre_hooks for model in (student, teacher.model) for module in model.modules())


def test_the_stage_trains_nothing_but_q_k_v_and_the_scalars():
    student, teacher, layer_map = pair()
    AlignAttention(output_dir="unused").select_trainable(EncoderPairing(student, teacher, layer_map))
    trained = {name for name, p in student.named_parameters() if p.requires_grad}
    expected = {f"{part}_lin.{kind}" for part in "qkv" for kind in ("weight", "bias")}
    expected |= {f"inhibitor.{name}" for name in ("gamma", "delta", "eta", "length_exponent")}
    assert trained == {f"transformer.layer.{i}.attention.{name}" for i in range(LAYERS) for name in expected}


def test_mean_squares_of_attention_outputs_are_taken_over_valid_tokens():
    teacher, layer_map = Teacher(bert()), map_layers([1], LAYERS)
    attention_outputs = torch.cat(
        [teacher(row, attention_outputs=True).attention_outputs[1][0] for row in all_rows()]
    ).double()
    assert attention_output_mean_squares(EncoderPairing(bert(), teacher, layer_map), list(BATCHES)) == pytest.approx(
        [float(attention_outputs.square().mean())], rel=1e-5
    )


def test_attention_output_errors_are_relative_to_the_teacher_over_all_tokens():
    student, teacher, layer_map = pair()
    batches = [padded_batch(ROWS), padded_batch([20, 7], seed=1)]
    for i, found in enumerate(attention_output_errors(EncoderPairing(student, teacher, layer_map), batches)):
        attention, error, energy = student.transformer.layer[i].attention, 0.0, 0.0
        for row in [row for batch in batches for row in rows_of(batch)]:
            teacher_outputs = teacher(row, attention_outputs=True, hidden=True)
            error += squared(
                attention_output(attention, teacher_outputs.hidden[i]).detach(), teacher_outputs.attention_outputs[i]
            )
            energy += squared(teacher_outputs.attention_outputs[i], torch.zeros(1))
        assert found == pytest.approx(error / energy, rel=1e-4)
