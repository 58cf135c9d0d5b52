"""Goes on from a student that an earlier run left behind, instead of from the teacher's weights."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from ..common.settings import require
from ..models import InhibiDistilBertModel, InhibiDistilBertPreTrainedModel, LayerMap
from ..models.inhibidistilbert.from_teacher import student_config
from ..models.loading import require_finite
from ..models.pretrained import load_config, load_pretrained, loading
from .config import STUDENT_FIELDS
from .training.trainable import require_trainable

_SIZES = ("n_layers", "vocab_size", "max_position_embeddings", "n_heads", "dim", "hidden_dim", "layer_norm_eps")


def load_start(source: str, teacher: PretrainedConfig, layer_map: LayerMap) -> InhibiDistilBertPreTrainedModel:
    """The encoder of the student in a folder or under a Hub id.

    Raises ValueError if it is not an InhibiDistilBERT, ConfigError if it does not fit the teacher and the plan.
    """
    require_trainable(load_config(source), f"start: {source!r}")
    start = load_pretrained(source)
    if not isinstance(start, InhibiDistilBertModel):
        raise ValueError(f"start: {source!r} is a {type(start).__name__}, not an InhibiDistilBERT student")
    has_segments, to_have = start.config.type_vocab_size > 0, getattr(teacher, "type_vocab_size", 0) > 0
    require(
        to_have or not has_segments, f"start: {source!r} has segments, which this {teacher.model_type} teacher lacks"
    )
    expected = student_config(teacher, layer_map, keep_segments=has_segments)
    for name in (*_SIZES, "type_vocab_size"):
        ours, theirs = getattr(start.config, name), getattr(expected, name)
        require(ours == theirs, f"start: {source!r} has {name} {ours}, a student of this teacher and layers {theirs}")
    return start


def student_from_start(
    start: InhibiDistilBertPreTrainedModel,
    source: str,
    model_class: type[InhibiDistilBertPreTrainedModel],
    teacher: PreTrainedModel,
    layer_map: LayerMap,
) -> InhibiDistilBertPreTrainedModel:
    """A student with the encoder of `start`; a head comes from `source` if it was saved with one, or the teacher."""
    if model_class.__name__ in (start.config.architectures or []):
        with loading(source):
            student = model_class.from_pretrained(source)
        require_finite(student, f"start: {source!r}")
        return student
    fields: dict[str, Any] = {name: getattr(start.config, name) for name in STUDENT_FIELDS}
    segments = "keep" if start.config.type_vocab_size > 0 else "fold"
    student = model_class.from_teacher(teacher, list(layer_map.teacher_layers), segments=segments, **fields)
    student.base_model.load_state_dict(start.state_dict())
    return student
