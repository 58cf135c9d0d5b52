"""Carries what a teacher's fine-tuning changed over to a student of the pretrained teacher."""

from __future__ import annotations

import math

import torch
from transformers import PretrainedConfig, PreTrainedModel

from ..architectures import ARCHITECTURES, STUDENT
from ..compatibility import find_order, label_names
from ..layer_map import map_layers
from ..loading import require_finite
from .from_teacher import StateDict, copy_heads, encoder_weights, teacher_depth

_STUDENTS = [name for name, record in ARCHITECTURES.items() if record.layer == STUDENT.layer]  # the same weights fit
# Length of a task vector over that of the pretrained weights: 0.02 to 0.03 where it was measured, about 1.4 between
# models that have nothing to do with each other.
_LONGEST = 0.5


@torch.no_grad()
def add_task_vector(student: PreTrainedModel, fine_tuned: PreTrainedModel, pretrained: PreTrainedModel) -> list[str]:
    """Add fine_tuned − pretrained to the student's encoder, and copy the head; returns the heads that were not copied.

    A student that was aligned to the pretrained model stays near it in its feed-forward layers, norms and output
    projections, so that it may know the task at once (task arithmetic: Ilharco et al. 2023, arXiv 2212.04089).

    Args:
        student: InhibiDistilBERT or DistilBERT with a head for the task; it is changed.
        fine_tuned: a DistilBERT, BERT or RoBERTa with a head for the task, fine-tuned from
        pretrained: the bare encoder, or one with any head. BERT's and RoBERTa's heads read what a student does not
            have; they are not copied.

    Raises ValueError, before anything is changed, for another architecture, weights of other shapes or not finite, a
    pretrained model so far from the fine-tuned one that it is another, or a student with labels of other names.
    """
    for model, what in ((student, "the student"), (fine_tuned, "the fine-tuned model"), (pretrained, "its base")):
        require_finite(model, what)
    encoder = student.base_model.state_dict()
    keep = "embeddings.token_type_embeddings.weight" in encoder
    _require_alike(student.config, fine_tuned.config, pretrained.config)
    layer_map = map_layers("all", teacher_depth(fine_tuned.config))
    after, before = (encoder_weights(m.base_model, layer_map, keep_segments=keep) for m in (fine_tuned, pretrained))
    odd = [name for name, tensor in after.items() if not tensor.shape == before[name].shape == encoder[name].shape]
    if odd:
        raise ValueError(f"teacher, its pretrained model and student differ in the shape of {', '.join(odd[:3])}")
    _require_near(after, before)
    _require_same_labels(student.config, fine_tuned.config)
    for name, tensor in after.items():
        encoder[name] += tensor - before[name]
    return copy_heads(fine_tuned, student)


def _require_alike(student: PretrainedConfig, fine_tuned: PretrainedConfig, pretrained: PretrainedConfig) -> None:
    depth, base_depth = teacher_depth(fine_tuned), teacher_depth(pretrained)
    if (fine_tuned.model_type, depth) != (pretrained.model_type, base_depth):
        ours, theirs = f"{fine_tuned.model_type} of {depth} layers", f"{pretrained.model_type} of {base_depth}"
        raise ValueError(f"a {ours} was not fine-tuned from a {theirs}")
    if student.model_type not in _STUDENTS:
        raise ValueError(f"a {student.model_type!r} cannot start from a task vector; {' and '.join(_STUDENTS)} can")
    if student.num_hidden_layers != depth:
        raise ValueError(
            f"a task vector is added layer by layer; the teacher has {depth}, the student {student.num_hidden_layers}"
        )


def _require_same_labels(student: PretrainedConfig, fine_tuned: PretrainedConfig) -> None:
    """The head comes along as it is; where either has no names of its own, they are taken to be the same."""
    ours, theirs = label_names(student), label_names(fine_tuned)
    if ours and theirs and len(ours) == len(theirs) and find_order(ours, theirs) != list(range(len(ours))):
        raise ValueError(f"the student's labels are {ours}, the fine-tuned model's {theirs}: its head is another")


def _require_near(after: StateDict, before: StateDict) -> None:
    """A vector between models of one shape that have nothing to do with each other would be added without a word."""
    moved = sum(float((after[name] - before[name]).square().sum()) for name in after)
    length = math.sqrt(moved / sum(float(tensor.square().sum()) for tensor in before.values()))
    if length > _LONGEST:
        raise ValueError(
            f"the teacher was not fine-tuned from this model: their weights differ by {length:.2f} of its length, "
            f"more than {_LONGEST}"
        )
