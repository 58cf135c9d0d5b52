"""What fine-tuning changed in a teacher, added to a student."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification, add_task_vector
from inhibitor_transformers.models.inhibidistilbert.from_teacher import encoder_weights
from inhibitor_transformers.models.layer_map import map_layers
from inhibitor_transformers.models.softmax_student import softmax_student
from tests.models.tiny import ARCHITECTURES, tiny_teacher

HEAD = "SequenceClassification"


def tuned_from(pretrained):
    """A classifier with the pretrained encoder, a little changed, and a head of its own."""
    tuned = tiny_teacher(pretrained.config.model_type, HEAD)
    tuned.base_model.load_state_dict(pretrained.state_dict(), strict=False)
    with torch.no_grad():
        for parameter in tuned.base_model.parameters():
            parameter.mul_(1.1)
    return tuned


def student_of(pretrained, **fields):
    """A student that has moved away from its teacher, and its encoder's weights."""
    student = InhibiDistilBertForSequenceClassification.from_teacher(pretrained, **fields)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1)
    return student, {name: tensor.clone() for name, tensor in student.base_model.state_dict().items()}


@pytest.mark.parametrize("segments", ["auto", "fold"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_but_the_scalars_moves_by_what_fine_tuning_changed(architecture, segments):
    pretrained = tiny_teacher(architecture)
    fine_tuned = tuned_from(pretrained)
    student, before = student_of(pretrained, segments=segments)
    keep = student.config.type_vocab_size > 0
    add_task_vector(student, fine_tuned, pretrained)
    layer_map = map_layers("all", 2)
    base, tuned = (encoder_weights(m.base_model, layer_map, keep_segments=keep) for m in (pretrained, fine_tuned))
    for name, weight in student.base_model.state_dict().items():
        moved = tuned[name] - base[name] if name in base else torch.zeros_like(weight)
        torch.testing.assert_close(weight, before[name] + moved)
    assert set(before) - set(base) == {name for name in before if ".inhibitor." in name}
    assert not torch.equal(tuned["transformer.layer.1.ffn.lin1.weight"], base["transformer.layer.1.ffn.lin1.weight"])


def test_the_pretrained_softmax_model_becomes_the_fine_tuned_one():
    pretrained = tiny_teacher("distilbert")
    fine_tuned = tuned_from(pretrained)
    student = type(fine_tuned)(fine_tuned.config).eval()
    student.distilbert.load_state_dict(softmax_student(pretrained).state_dict())
    assert add_task_vector(student, fine_tuned, pretrained) == []
    ids = torch.arange(5, 25).view(2, 10)
    torch.testing.assert_close(student(ids).logits, fine_tuned(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("architecture", "new"), [("distilbert", []), ("bert", ["pre_classifier", "classifier"])])
def test_the_head_comes_along_where_the_teacher_has_the_same(architecture, new):
    pretrained = tiny_teacher(architecture)
    fine_tuned = tuned_from(pretrained)
    student, _ = student_of(pretrained)
    assert add_task_vector(student, fine_tuned, pretrained) == new
    assert torch.equal(student.classifier.weight, fine_tuned.classifier.weight) == (not new)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pretrained": ("distilbert", {})}, "a bert of 2 layers was not fine-tuned from a distilbert of 2"),
        ({"pretrained": ("bert", {"layers": 3})}, "a bert of 2 layers was not fine-tuned from a bert of 3"),
        ({"student": ("bert", {"layers": 3})}, "the teacher has 2, the student 3"),
        ({"student": ("bert", {"intermediate_size": 8})}, "differ in the shape of transformer.layer.0.ffn.lin1"),
        ({}, "the teacher was not fine-tuned from this model: their weights differ by 1"),
        ({"pretrained": ("bert", {"intermediate_size": 8})}, "differ in the shape of transformer.layer.0.ffn.lin1"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changed(changed, message):
    def made(role):
        architecture, fields = changed.get(role, ("bert", {}))
        return tiny_teacher(architecture, **fields)

    student, before = student_of(made("student"))
    with pytest.raises(ValueError, match=message):
        add_task_vector(student, tiny_teacher("bert", HEAD), made("pretrained"))
    for name, weight in student.base_model.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_only_a_student_with_distilbert_s_names_can_take_one():
    with pytest.raises(
        ValueError, match="a 'bert' cannot start from a task vector; distilbert and inhibidistilbert can"
    ):
        add_task_vector(tiny_teacher("bert", HEAD), tiny_teacher("bert", HEAD), tiny_teacher("bert"))


@pytest.mark.parametrize("names", [("yes", "no"), ("maybe", "no")])
def test_a_head_for_other_labels_is_refused(names):
    """It was copied: the student answered with another task's labels, or with the right ones turned round."""
    pretrained = tiny_teacher("distilbert")
    fine_tuned = tuned_from(pretrained)
    fine_tuned.config.id2label = dict(enumerate(names))
    student, _ = student_of(pretrained, id2label={0: "no", 1: "yes"})
    with pytest.raises(ValueError, match=r"the student's labels are \['no', 'yes'\], the fine-tuned model's"):
        add_task_vector(student, fine_tuned, pretrained)
