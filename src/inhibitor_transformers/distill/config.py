"""Configuration of a distillation: what a run's YAML holds, checked when built; `stages` hold their own."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PretrainedConfig

from ..common.inputs import Sources
from ..common.number_ranges import FINITE, FRACTION, SEED, check_number
from ..common.settings import ConfigError, build, close_match, require, settle_numbers
from ..models import InhibiDistilBertConfig
from ..models.architectures import is_known_encoder
from ..models.conversion import Options
from ..tasks.text import HELD_OUT_FRACTION
from .stages import STAGES
from .stages.base import Stage
from .teacher.cache import TeacherCacheConfig

# What an InhibiDistilBertConfig leaves to the user; everything else has to be as in the teacher.
STUDENT_FIELDS = [
    name
    for name in (f.name for f in dataclasses.fields(InhibiDistilBertConfig))
    if name.startswith("inhibitor_") or name.endswith("dropout")
]


STUDENT_CLASSES = ("auto", "inhibidistilbert", "converted")
# Settings of stages that only texts, or only images and recordings have.
_OF_TEXTS = frozenset(("lengths", "tokens_per_step", "tokens_per_length", "pair_fraction", "masked_fraction"))
_OF_EXAMPLES = frozenset(("examples", "examples_per_step"))


@dataclass
class DistillConfig:
    """A whole run: teacher, student, texts and the stages in order.

    teacher: folder or Hub id. layers, segments: as `from_teacher`. student: fields of InhibiDistilBertConfig that do
    not come from the teacher. init_from: folder or Hub id of a student of this teacher to go on from, instead of the
    teacher's weights; layers still names the teacher layers that its layers stand for.
    student_class: "inhibidistilbert", "converted" (a model of the teacher's own class, by `convert`), or "auto": an
    InhibiDistilBERT of the encoders that it can be made of, else converted. convert: of a converted student, `modules`
    and the options of `convert`.
    text: files, folders, Hub ids, or "this-machine"; one or a list. images, audio: a folder, file or Hub id instead.
    min_words: of a text that is taken; 1 for sequences without spaces, such as proteins.
    max_texts: how many to take from each source; one that is named as {source: number} has its own. row_pairs: also
    take the two texts of a row together, as tasks on pairs have them (so many again at most). held_out: fraction of the
    texts, chosen by their hash, that no stage sees; of images and recordings it is a tenth.
    teacher_cache: folder in which the teacher's outputs are kept for other runs, or {folder: …, dtype: float16 or
    float32}; by default they are computed anew in every step.
    stages: one mapping each, {stage name: its settings}.
    """

    teacher: str
    stages: list[dict[str, dict[str, Any]]]
    text: list[Any] | None = None
    images: str | None = None
    audio: str | None = None
    student_class: str = "auto"
    convert: dict[str, Any] = field(default_factory=dict)
    layers: str | list[int] = "all"
    segments: str = "auto"
    student: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    max_texts: int | None = None
    min_words: int = 5
    row_pairs: bool = False
    held_out: float = HELD_OUT_FRACTION
    teacher_cache: str | dict[str, Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        settle_numbers(self)
        self.teacher, self.init_from = _as_text(self.teacher), _as_text(self.init_from)
        require(bool(self.teacher) and isinstance(self.teacher, str), f"teacher must be a name, got {self.teacher!r}")
        self._require_data()
        require(isinstance(self.layers, str | list), f"layers must be a rule or a list, got {self.layers!r}")
        require(
            self.segments in ("auto", "keep", "fold"), f"segments must be auto, keep or fold, got {self.segments!r}"
        )
        check_number("seed", self.seed, SEED)
        # `inhibit evaluate` judges by that fraction of any source: with less, some of it would have been trained on.
        require(
            HELD_OUT_FRACTION <= self.held_out < 1,
            f"held_out must be from {HELD_OUT_FRACTION} to below 1, got {self.held_out}",
        )
        require(isinstance(self.stages, list) and bool(self.stages), f"stages must be a list of {sorted(STAGES)}")
        self.stages = [_stage_mapping(stage) for stage in self.stages]
        source = self.init_from
        require(source is None or isinstance(source, str), f"init_from must be a folder or id, got {source!r}")
        fixed = [name for name, given in (("student", self.student), ("segments", self.segments != "auto")) if given]
        require(not (source and fixed), f"{' and '.join(fixed)} cannot be set together with init_from, which has them")
        self.student = self.student or {}
        self._require_student()
        self._require_conversion()
        self.build_cache()

    def _require_data(self) -> None:
        given = [name for name in ("text", "images", "audio") if getattr(self, name) is not None]
        require(len(given) == 1, f"a run learns from text, images or audio: one of them, got {given or 'none'}")
        for name in ("images", "audio"):
            source = _as_text(getattr(self, name))
            setattr(self, name, source)
            require(source is None or _is_name(source), f"{name} must be a folder, a file or a Hub id, got {source!r}")
        if self.text is not None:
            self.text = [_as_text(text) for text in (self.text if isinstance(self.text, list) else [self.text])]
            sources = bool(self.text) and all(_is_source(text) for text in self.text)
            require(sources, f"text must name at least one source of texts, got {self.text!r}")
        for text, count in self.sources:
            require(count is None or count > 0, f"max_texts must be positive, got {count} for {text}")
        require(self.min_words > 0, f"min_words must be positive, got {self.min_words}")
        require(self.max_texts is None or self.max_texts > 0, f"max_texts must be positive, got {self.max_texts}")
        for_text = {"max_texts": self.max_texts, "row_pairs": self.row_pairs, "teacher_cache": self.teacher_cache}
        others = [name for name, value in for_text.items() if value] + (
            ["held_out"] if self.held_out != HELD_OUT_FRACTION else []
        )
        require(self.text is not None or not others, f"{' and '.join(others)} cannot be set for images and audio")

    def _require_conversion(self) -> None:
        known = ", ".join(STUDENT_CLASSES)
        require(
            self.student_class in STUDENT_CLASSES, f"student_class must be one of {known}, got {self.student_class!r}"
        )
        self.convert = self.convert or {}
        require(isinstance(self.convert, dict), f"convert must be a mapping of settings, got {self.convert!r}")
        names = ["modules", *(f.name for f in dataclasses.fields(Options))]
        for name in self.convert:
            require(name in names, f"convert has no setting {name!r}{close_match(name, names)}")
        modules = self.convert.get("modules")
        listed = modules is None or (isinstance(modules, list) and bool(modules) and all(map(_is_name, modules)))
        require(listed, f"convert: modules must be a list of names, got {modules!r}")
        try:
            Options(**{name: value for name, value in self.convert.items() if name != "modules"})
        except ValueError as error:
            raise ConfigError(f"convert: {error}") from error
        source = self.init_from
        require(not (source and self.convert), "convert cannot be set together with init_from, which has it")
        if self.convert or self.text is None:
            self.require_convertible()

    def require_convertible(self) -> None:
        """Raise ConfigError for settings that a converted student cannot obey."""
        reasons = {
            "student_class": (self.student_class == "inhibidistilbert", "that is not what convert() makes"),
            "student": (bool(self.student), "its settings are those of its teacher; see convert"),
            "layers": (self.layers != "all", "it has all layers of its teacher"),
            "segments": (self.segments != "auto", "it has the embeddings of its teacher"),
            "teacher_cache": (self.teacher_cache is not None, "its stages read what no cache keeps: inputs of modules"),
        }
        for name, (is_set, reason) in reasons.items():
            require(not is_set, f"{name} cannot be set for a converted student: {reason}")

    def converts(self, teacher: PretrainedConfig) -> bool:
        """Whether the student of this teacher is a converted one. Raises ConfigError for settings that it lacks."""
        converted = self.student_class == "converted" or bool(self.convert) or self.text is None
        if self.student_class == "auto" and not converted:
            converted = not is_known_encoder(teacher)
        if converted:
            self.require_convertible()
        return converted

    def _require_student(self) -> None:
        require(isinstance(self.student, dict), f"student must be a mapping of settings, got {self.student!r}")
        for name, value in self.student.items():
            require(name in STUDENT_FIELDS, f"student has no setting {name!r}{close_match(name, STUDENT_FIELDS)}")
            if isinstance(value, int | float) and not isinstance(value, bool):  # other types: by the config, below
                check_number(f"student: {name}", value, FRACTION if name.endswith("dropout") else FINITE)
        try:
            InhibiDistilBertConfig(**self.student)
        except (StrictDataclassError, ValueError) as error:
            raise ConfigError(f"student: {str(error).splitlines()[-1].strip()}") from error

    def build_cache(self) -> TeacherCacheConfig | None:
        """The checked settings of the teacher cache, if there is to be one."""
        given = self.teacher_cache
        if given is None:
            return None
        require(isinstance(given, str | dict), f"teacher_cache must be a folder or a mapping, got {given!r}")
        return build(TeacherCacheConfig, given if isinstance(given, dict) else {"folder": given}, where="teacher_cache")

    @property
    def sources(self) -> list[tuple[str, int | None]]:
        """Each source of texts, and how many to take from it; None takes all."""
        own = [text if isinstance(text, dict) else {text: self.max_texts} for text in self.text or []]
        return [source for entry in own for source in entry.items()]

    @property
    def inputs(self) -> Sources:
        """What the run reads, by name, for `require_apart`."""
        cache = self.build_cache()
        texts = [source for source, _ in self.sources]
        folder = Path(cache.folder) if cache else None
        named: Sources = {"teacher": self.teacher, "init_from": self.init_from, "text": texts, "teacher cache": folder}
        return {**named, "images": self.images, "audio": self.audio}

    @property
    def stage_names(self) -> list[str]:
        """Names of the stages, in order."""
        return [name for stage in self.stages for name in stage]

    def build_stage(self, index: int, output_dir: Path, **runtime: Any) -> Stage:
        """The checked stage `index`; `runtime` are TrainingArguments that no YAML holds (device, …)."""
        ((name, settings),) = self.stages[index].items()
        if name not in STAGES:
            raise ConfigError(f"unknown stage {name!r}{close_match(name, STAGES)}; known: {sorted(STAGES)}")
        kind, others = ("images and audio", _OF_TEXTS) if self.text is None else ("texts", _OF_EXAMPLES)
        for key in settings:
            require(key not in others, f"stage {name!r}: {key} has no meaning for {kind}")
        return STAGES[name].from_settings(settings, seed=self.seed, output_dir=output_dir, **runtime)


def _as_text(name: Any) -> Any:
    """A path as YAML holds it, with the home folder in place of "~"; anything else as it is."""
    return os.path.expanduser(name) if isinstance(name, str | Path) else name


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name)


def _is_source(text: Any) -> bool:
    named = text if isinstance(text, dict) else {text: None}
    return bool(named) and all(isinstance(s, str) and s and (n is None or type(n) is int) for s, n in named.items())


def _stage_mapping(stage: Any) -> dict[str, dict[str, Any]]:
    require(isinstance(stage, dict) and len(stage) == 1, f"a stage is one mapping {{name: settings}}, got {stage!r}")
    ((name, settings),) = stage.items()
    require(isinstance(settings, dict | None), f"stage {name!r} must hold a mapping of settings, got {settings!r}")
    return {name: settings or {}}
