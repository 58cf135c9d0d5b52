"""The softmax student: the baseline of every comparison."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, DistilBertModel

from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.stages.align_hidden import HiddenStateLoss, HiddenWeights
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import InhibiDistilBertModel, map_layers
from inhibitor_transformers.models.softmax_student import softmax_student
from tests.distill.tiny import bert, distilbert, equal_variances, roberta


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 40, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("make", [bert, distilbert], ids=["bert", "distilbert"])
def test_with_all_layers_it_computes_what_the_teacher_computes(make):
    teacher, inputs = make().double().eval(), batch()
    valid = inputs["attention_mask"].bool()
    with torch.no_grad():
        ours = softmax_student(teacher)(**inputs).last_hidden_state[valid]
        theirs = teacher(**inputs).last_hidden_state[valid]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_alignment_of_hidden_states_finds_nothing_to_change():
    """On the teacher's own segment 0: so the stages of a distillation need not be run for the baseline."""
    teacher, layer_map = Teacher(bert()), map_layers("all", 2)
    baseline, inhibitor = softmax_student(teacher.model), InhibiDistilBertModel.from_teacher(teacher.model)
    losses = []
    for student in (baseline, inhibitor):
        criterion = HiddenStateLoss(
            EncoderPairing(student, teacher, layer_map), equal_variances(layer_map), HiddenWeights(cls=1.0)
        )
        losses.append(sum(term.item() for term in criterion(student, batch(), 28.0).values()))
    assert losses[0] < 1e-9 < losses[1]


def test_it_has_the_weights_of_the_inhibitor_student_but_for_the_scalars():
    teacher = bert()
    inhibitor = InhibiDistilBertModel.from_teacher(teacher, "last 1", segments="fold").state_dict()
    baseline = softmax_student(teacher, "last 1").state_dict()
    assert {name for name in inhibitor if ".inhibitor." not in name} == set(baseline)
    for name, weight in baseline.items():
        assert torch.equal(weight, inhibitor[name]), name


def test_it_is_saved_and_loaded_as_plain_distilbert(tmp_path):
    softmax_student(bert()).save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is DistilBertModel


def test_layer_norms_that_distilbert_cannot_have():
    teacher = roberta()
    teacher.config.layer_norm_eps = 1e-5
    with pytest.raises(ValueError, match="epsilon"):
        softmax_student(teacher)
