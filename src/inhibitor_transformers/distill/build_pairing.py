"""Loads the teacher of a run and makes its student: an InhibiDistilBERT of it, or a converted model of its class."""

from __future__ import annotations

from transformers import PreTrainedModel, set_seed

from ..common.settings import require
from ..models import convert, map_layers
from ..models.inhibidistilbert.from_teacher import teacher_depth
from ..models.loading import require_finite
from ..models.pretrained import load_as_saved, load_pretrained
from ..tasks.modalities import Preprocessor
from ..tasks.modalities.example import example_batch, tokenizer_of
from .config import DistillConfig
from .init_from import init_student_from
from .pairing import ConvertedPairing, EncoderPairing
from .stages.base import Models, Stage
from .teacher.teacher import Teacher


def encoder_pairing(config: DistillConfig, models: Models, stages: list[Stage]) -> EncoderPairing:
    """An InhibiDistilBERT with the layers that the settings name. Raises ValueError before anything is made."""
    teacher = load_pretrained(config.teacher, models.teacher)
    layer_map = map_layers(config.layers, teacher_depth(teacher.config))
    for stage in stages:
        stage.check_model(teacher.config)
    set_seed(config.seed)  # for a head that starts anew
    if config.init_from:
        student = init_student_from(config.init_from, models.student, teacher, layer_map)
    else:
        student = models.student.from_teacher(teacher, config.layers, segments=config.segments, **config.student)
    return EncoderPairing(student, Teacher(teacher), layer_map)


def converted_pairing(config: DistillConfig, preprocessor: Preprocessor, stages: list[Stage]) -> ConvertedPairing:
    """A converted model of the teacher's class, head and all. Raises ValueError for what `convert` refuses."""
    teacher = load_as_saved(config.teacher, encoder=False)
    for stage in stages:
        stage.check_model(teacher.config)
    example = example_batch(teacher, preprocessor)
    set_seed(config.seed)
    student = (
        _converted_from(config.init_from, teacher) if config.init_from else convert(teacher, example, **config.convert)
    )
    tokenizer = tokenizer_of(preprocessor)
    has_cls = tokenizer is not None and tokenizer.cls_token_id is not None
    return ConvertedPairing(student, Teacher(teacher), example, has_cls)


def _converted_from(source: str, teacher: PreTrainedModel) -> PreTrainedModel:
    """The converted student of an earlier run. Raises ConfigError unless it has this teacher's class and sizes."""
    student = load_as_saved(source, encoder=False)
    require(hasattr(student, "inhibitor_report"), f"init_from: {source!r} is no converted model")
    is_same_class = isinstance(student, type(teacher))
    require(is_same_class, f"init_from: {source!r} is no {type(teacher).__name__}, which its teacher is")
    ours = {name: p.shape for name, p in student.named_parameters() if ".inhibitor." not in name}
    theirs = {name: p.shape for name, p in teacher.named_parameters()}
    require(ours == theirs, f"init_from: {source!r} has other layers or sizes than the teacher")
    require_finite(student, f"init_from: {source!r}")
    return student
