"""Builds a student from a softmax teacher: the same weights under DistilBERT's names, inhibitor attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...attention import InhibitorScalars
from ..architectures import ARCHITECTURES, PER_TOKEN_HEADS, STUDENT, position_offset, teacher_architecture
from ..layer_map import LayerMap, map_layers
from ..loading import require_finite
from .configuration_inhibidistilbert import InhibiDistilBertConfig

logger = logging.get_logger(__name__)

StateDict = dict[str, Tensor]


_SIZES = ("vocab_size", "max_position_embeddings", "n_layers", "n_heads", "dim", "hidden_dim", "type_vocab_size")
_LABELS = ("num_labels", "id2label", "label2id", "problem_type")


def teacher_depth(config: PretrainedConfig) -> int:
    """Number of layers of a supported teacher. Raises ValueError naming the supported architectures."""
    teacher_architecture(config)
    return int(config.num_hidden_layers)


def student_from_teacher(
    model_class: type[Any], teacher: nn.Module, layers: Any, *, segments: str, overrides: dict[str, Any]
) -> Any:
    """See `InhibiDistilBertPreTrainedModel.from_teacher`."""
    if not isinstance(teacher, PreTrainedModel):
        merge = "; merge its adapters, teacher.merge_and_unload()" if hasattr(teacher, "merge_and_unload") else ""
        raise ValueError(f"the teacher must be a transformers model, got {type(teacher).__name__}{merge}")
    layer_map = map_layers(layers, teacher_depth(teacher.config))
    require_finite(teacher, "the teacher")
    keep = _keeps_segments(teacher.config, segments)
    _check_overrides(overrides)
    config = student_config(teacher.config, layer_map, keep_segments=keep, **overrides)
    student = model_class(config)
    encoder = student.base_model
    report = encoder.load_state_dict(encoder_weights(teacher.base_model, layer_map, keep_segments=keep), strict=False)
    lost = [key for key in report.missing_keys if ".inhibitor." not in key and key != "embeddings.position_ids"]
    if lost or report.unexpected_keys:
        raise ValueError(f"teacher weights do not fit the student: missing {lost}, left over {report.unexpected_keys}")
    new_heads = copy_heads(teacher, student) if student is not encoder else []
    if new_heads:
        logger.warning(f"task head of {model_class.__name__} starts anew: {', '.join(new_heads)}")
    return _in_dtype(student, teacher.dtype).eval()


def student_config(
    teacher: PretrainedConfig, layer_map: LayerMap, *, keep_segments: bool, **overrides: Any
) -> InhibiDistilBertConfig:
    """The student's configuration: the teacher's sizes under DistilBERT's names."""
    theirs = teacher_architecture(teacher).config_fields
    fields = {
        "vocab_size": teacher.vocab_size,
        "max_position_embeddings": teacher.max_position_embeddings - position_offset(teacher),
        "n_layers": len(layer_map),
        "n_heads": teacher.num_attention_heads,
        "dim": teacher.hidden_size,
        "initializer_range": teacher.initializer_range,
        "pad_token_id": teacher.pad_token_id,
        "bos_token_id": teacher.bos_token_id,
        "eos_token_id": teacher.eos_token_id,
        "type_vocab_size": teacher.type_vocab_size if keep_segments else 0,
        "layer_norm_eps": getattr(teacher, "layer_norm_eps", 1e-12),
        "tie_word_embeddings": teacher.tie_word_embeddings,
    }
    fields |= {ours: getattr(teacher, name) for ours, name in theirs.items()}
    if not any(name in overrides for name in _LABELS):
        fields |= {name: getattr(teacher, name) for name in ("id2label", "label2id", "problem_type")}
    try:
        return InhibiDistilBertConfig(**(fields | overrides))
    except StrictDataclassError as error:  # a wrong type, told in several lines and not as a ValueError
        raise ValueError(" ".join(str(error).split())) from error


def encoder_weights(teacher: PreTrainedModel, layer_map: LayerMap, *, keep_segments: bool) -> StateDict:
    """The student encoder's weights, taken from the teacher's encoder.

    Raises ValueError for a teacher in whose modules another library keeps its own, or whose weights are elsewhere.
    """
    theirs = teacher_architecture(teacher.config)
    source = _Weights(teacher.state_dict())
    weights = dict(_embedding_weights(source, position_offset(teacher.config), keep_segments))
    for student_layer, teacher_layer in enumerate(layer_map.teacher_layers):
        for part, teacher_part in zip(STUDENT.layer, theirs.layer, strict=True):
            for kind in ("weight", "bias"):
                name = f"{theirs.layers}.{teacher_layer}.{teacher_part}.{kind}"
                weights[f"{STUDENT.layers}.{student_layer}.{part}.{kind}"] = source[name].clone()
    return weights


class _Weights(StateDict):
    """A state dict that says in one line what it cannot give."""

    def __missing__(self, key: str) -> Tensor:
        raise ValueError(
            f"the teacher has no {key}: merge its adapters (teacher = teacher.merge_and_unload()) and remove its "
            "parametrizations first"
        )

    def __getitem__(self, key: str) -> Tensor:
        weight = super().__getitem__(key)
        if weight.is_meta:
            raise ValueError(f"{key} of the teacher is offloaded: load the teacher without a device_map")
        return weight


def _embedding_weights(source: StateDict, position_offset: int, keep_segments: bool) -> Iterator[tuple[str, Tensor]]:
    yield "embeddings.word_embeddings.weight", source["embeddings.word_embeddings.weight"].clone()
    positions = source["embeddings.position_embeddings.weight"][position_offset:].clone()
    segments = source.get("embeddings.token_type_embeddings.weight")
    if segments is not None and keep_segments:
        yield "embeddings.token_type_embeddings.weight", segments.clone()
    elif segments is not None:
        positions += segments[0]
    yield "embeddings.position_embeddings.weight", positions
    for kind in ("weight", "bias"):
        yield f"embeddings.LayerNorm.{kind}", source[f"embeddings.LayerNorm.{kind}"].clone()


def _keeps_segments(teacher: PretrainedConfig, segments: str) -> bool:
    count = getattr(teacher, "type_vocab_size", 0)
    if segments not in ("auto", "keep", "fold"):
        raise ValueError(f'segments must be "auto", "keep" or "fold", got {segments!r}')
    if segments == "keep" and count == 0:
        raise ValueError(f"a {teacher.model_type} teacher has no segment embeddings to keep")
    if segments == "fold" and count > 1:
        logger.warning("segment embeddings folded: the student cannot tell the two texts of a pair apart by segment")
    return segments == "keep" or (segments == "auto" and count > 1)


def _check_overrides(overrides: dict[str, Any]) -> None:
    known = InhibiDistilBertConfig()
    unknown = sorted(name for name in overrides if not hasattr(known, name) and name != "attn_implementation")
    if unknown:
        raise ValueError(f"InhibiDistilBertConfig has no field {', '.join(unknown)}")
    fixed = sorted(name for name in overrides if known.attribute_map.get(name, name) in _SIZES)
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot be overridden: sizes come from the teacher, layers and segments")


@torch.no_grad()
def copy_heads(teacher: PreTrainedModel, student: PreTrainedModel) -> list[str]:
    """Copy each head module that both have, with equal shapes; return the names of those that start anew.

    Heads are copied between models for the same task only: another task's classifier may have the same shape.
    """
    task = _task(student)
    names = ARCHITECTURES[teacher.config.model_type].heads.get(task, {}) if _task(teacher) == task else {}
    theirs = dict(teacher.named_modules())
    new = []
    for name, head in student.named_children():
        if name == student.base_model_prefix or not list(head.parameters()):
            continue
        source = theirs.get(names.get(name, ""))
        if source is None or not _same_shapes(source, head):
            new.append(name)
            continue
        head.load_state_dict(source.state_dict())
    return new


def _task(model: PreTrainedModel) -> str:
    """What the model's head is for, by the name of its class or of the transformers class behind it."""
    for parent in type(model).__mro__:
        for task in ("MaskedLM", "PreTraining", *PER_TOKEN_HEADS, "SequenceClassification", "MultipleChoice"):
            if parent.__name__.endswith(f"For{task}"):
                return "MaskedLM" if task == "PreTraining" else task  # pre-training is masked LM and one more head
    return ""


def _in_dtype(student: Any, dtype: torch.dtype) -> Any:
    """The student in the teacher's dtype, but for its scalars, which stay float32."""
    student.to(dtype=dtype)
    for module in student.modules():
        if isinstance(module, InhibitorScalars):
            module.float().reset_parameters()
    return student


def _same_shapes(a: nn.Module, b: nn.Module) -> bool:
    return {k: v.shape for k, v in a.state_dict().items()} == {k: v.shape for k, v in b.state_dict().items()}
