"""Measures what the page of a converted model shows: pictures or texts, the classes or tokens, and the conversion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..attention.dispatch import serving_engine
from ..common.progress import track
from ..models.conversion import ConversionReport
from ..report import Continuation, ModelReport, Picture, Table
from ..tasks.modalities import Preprocessor
from ..tasks.modalities.pictures import NamedPicture
from .continuations import measure_text
from .passing import require_counterpart
from .pictures import measure_picture, require_same_classes


def report_on_pictures(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    processor: Preprocessor,
    pictures: Sequence[NamedPicture],
    *,
    names: tuple[str, str],
) -> ModelReport:
    """What `measure_picture` finds of each picture.

    student: a converted vision model. teacher: the softmax model that it was made from. names: what the page calls
    student and teacher. Raises ValueError for a model that reads more than pictures, for a teacher of other modules or
    classes, and as `measure_picture`.
    """
    require_counterpart(student, teacher)
    _require_input(student, "pixel_values", "pictures")
    require_same_classes(student, teacher)
    measured = [measure_picture(student, teacher, processor, p) for p in track(pictures, "measuring", unit="pictures")]
    return _report(student, names, pictures=measured)


def report_on_texts(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    names: tuple[str, str],
    new_tokens: int,
) -> ModelReport:
    """What `measure_text` finds of each text; arguments and errors as of `report_on_pictures`."""
    require_counterpart(student, teacher)
    _require_input(student, "input_ids", "texts")
    _require_same_vocabulary(student, teacher)
    measured = [
        measure_text(student, teacher, tokenizer, text, new_tokens=new_tokens)
        for text in track(texts, "measuring", unit="texts")
    ]
    return _report(student, names, continuations=measured)


def conversion_table(report: ConversionReport) -> Table:
    """A row per kind of converted module, and per module that stays softmax, with the reason."""
    rows = [[names, "inhibitor", described] for names, described in report.converted()]
    rows += [[left.name, "softmax", left.reason] for left in report.record.unconverted]
    return Table("What was converted", ["attention modules", "computes", "what it is, or why it was left"], rows)


def _require_input(model: PreTrainedModel, name: str, what: str) -> None:
    """Raise ValueError for a model whose main input is another, or that has a decoder beside what reads it."""
    kind = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{kind} is an encoder-decoder: the page shows encoders, decoders and vision models")
    if model.main_input_name != name:
        raise ValueError(f"{kind} reads {model.main_input_name}, not {what} alone: convert the part that does")


def _require_same_vocabulary(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    ours, theirs = (getattr(model.config, "vocab_size", None) for model in (student, teacher))
    if ours != theirs:
        raise ValueError(f"student and teacher must share a vocabulary, and have {ours} and {theirs} tokens")


def _report(
    student: PreTrainedModel,
    names: tuple[str, str],
    *,
    pictures: Sequence[Picture] = (),
    continuations: Sequence[Continuation] = (),
) -> ModelReport:
    conversion: ConversionReport = student.inhibitor_report()
    record = conversion.record
    return ModelReport(
        student=names[0],
        teacher=names[1],
        model=conversion.model,
        converted=(len(record.sites), len(record.sites) + len(record.unconverted)),
        conversion=conversion_table(conversion),
        pictures=list(pictures),
        continuations=list(continuations),
        facts=_facts(student, names),
    )


def _facts(student: PreTrainedModel, names: tuple[str, str]) -> list[tuple[str, str]]:
    return [
        ("student", names[0]),
        ("teacher", names[1]),
        ("parameters", f"{student.num_parameters():,}"),
        ("engine", serving_engine(student.device)),
        ("device", str(student.device)),
        ("torch", torch.__version__),
        ("transformers", transformers.__version__),
    ]
