"""The baseline of every comparison: the student's architecture with softmax attention."""

from __future__ import annotations

from typing import Any

from transformers import DistilBertConfig, DistilBertModel, PreTrainedModel

from .inhibidistilbert.from_teacher import encoder_weights, student_config, teacher_depth
from .layer_map import map_layers
from .loading import require_finite

_SHARED = (
    "vocab_size",
    "max_position_embeddings",
    "n_layers",
    "n_heads",
    "dim",
    "hidden_dim",
    "dropout",
    "attention_dropout",
    "activation",
    "initializer_range",
    "pad_token_id",
)


def softmax_student(teacher: PreTrainedModel, layers: Any = "all") -> DistilBertModel:
    """transformers' DistilBERT with the weights of a DistilBERT, BERT or RoBERTa teacher.

    What `InhibiDistilBertModel.from_teacher(teacher, layers, segments="fold")` gives, but for the attention: the same
    weights, sizes, dropout and, for a task, the same new head. With all layers it computes what the teacher computes
    on segment 0, so that the stages of a distillation find nothing to change in it.

    Raises ValueError for another architecture, an impossible layer rule, layer norms unlike DistilBERT's, and weights
    that are NaN or infinite.
    """
    layer_map = map_layers(layers, teacher_depth(teacher.config))
    require_finite(teacher, "the teacher")
    ours = student_config(teacher.config, layer_map, keep_segments=False)
    if ours.layer_norm_eps != 1e-12:
        raise ValueError(
            "DistilBERT's layer norms have an epsilon of 1e-12, this teacher's "
            f"{ours.layer_norm_eps}: it has no baseline"
        )
    config = DistilBertConfig(**{name: getattr(ours, name) for name in _SHARED})
    student = DistilBertModel(config).to(teacher.dtype)
    student.load_state_dict(encoder_weights(teacher.base_model, layer_map, keep_segments=False))
    return student.eval()
