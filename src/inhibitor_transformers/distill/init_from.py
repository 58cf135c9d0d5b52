"""A run that begins with the student of an earlier run, instead of the teacher's weights."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from ..common.settings import require
from ..models import InhibiDistilBertModel, InhibiDistilBertPreTrainedModel, LayerMap
from ..models.inhibidistilbert.from_teacher import student_config
from ..models.loading import require_finite
from ..models.pretrained import load_config, load_pretrained, loading
from .config import STUDENT_FIELDS
from .training.checkpoints import require_trainable

_SIZES = ("n_layers", "vocab_size", "max_position_embeddings", "n_heads", "dim", "hidden_dim", "layer_norm_eps")


def init_student_from(
    source: str,
    model_class: type[InhibiDistilBertPreTrainedModel],
    teacher: PreTrainedModel,
    layer_map: LayerMap,
) -> InhibiDistilBertPreTrainedModel:
    """A student with the encoder of the student in `source`, a folder or Hub id.

    Its head, if `model_class` has one, comes from `source` if that was saved with one, or from the teacher.

    Raises ValueError if `source` is no InhibiDistilBERT, ConfigError if it does not fit the teacher and the layer map.
    """
    encoder = _load_encoder(source, teacher.config, layer_map)
    if model_class.__name__ in (encoder.config.architectures or []):
        with loading(source):
            student = model_class.from_pretrained(source)
        require_finite(student, f"init_from: {source!r}")
        return student
    fields: dict[str, Any] = {name: getattr(encoder.config, name) for name in STUDENT_FIELDS}
    segments = "keep" if encoder.config.type_vocab_size > 0 else "fold"
    student = model_class.from_teacher(teacher, list(layer_map.teacher_layers), segments=segments, **fields)
    student.base_model.load_state_dict(encoder.state_dict())
    return student


def _load_encoder(source: str, teacher: PretrainedConfig, layer_map: LayerMap) -> InhibiDistilBertModel:
    require_trainable(load_config(source), f"init_from: {source!r}")
    encoder = load_pretrained(source)
    if not isinstance(encoder, InhibiDistilBertModel):
        raise ValueError(f"init_from: {source!r} is a {type(encoder).__name__}, not an InhibiDistilBERT student")
    has_segments, teacher_has = encoder.config.type_vocab_size > 0, getattr(teacher, "type_vocab_size", 0) > 0
    require(
        teacher_has or not has_segments,
        f"init_from: {source!r} has segments, which this {teacher.model_type} teacher lacks",
    )
    expected = student_config(teacher, layer_map, keep_segments=has_segments)
    for name in (*_SIZES, "type_vocab_size"):
        ours, theirs = getattr(encoder.config, name), getattr(expected, name)
        require(
            ours == theirs, f"init_from: {source!r} has {name} {ours}, a student of this teacher and layers {theirs}"
        )
    return encoder
