"""Configuration of a distillation: one dataclass per stage and one for the run, checked when built."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub.errors import StrictDataclassError

from ..attention.scalars import INITIAL
from ..common.inputs import Sources
from ..common.number_ranges import NOT_NEGATIVE, POSITIVE, SEED, SHARE, Range, check_number, check_numbers
from ..common.settings import ConfigError, build, close_match, require, settle_numbers
from ..models import InhibiDistilBertConfig
from ..tasks.text import HELD_OUT
from .stages.calibrate import DELTA_GRID, GAMMA_GRID, LENGTH_EXPONENT_GRID
from .training.arguments import TrainerArguments

ALIGNMENT_LENGTHS = (32, 64, 128, 256)
_CACHE_DTYPES = ("float16", "float32")
_ANY = Range("be a finite number", lambda _: True)
_UP_TO_ONE = Range("be from 0 to 1", lambda x: 0 <= x <= 1)


@dataclass
class CalibrateConfig:
    """Stage "calibrate": scalars by grid and least squares; no training.

    lengths: text lengths in tokens; tokens_per_length: how many tokens of each are used.
    gammas, deltas, length_exponents: the grid, in the units of `calibrate`; a single value fixes it.
    """

    name: ClassVar[str] = "calibrate"
    lengths: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 256])
    tokens_per_length: int = 1024
    gammas: list[float] = field(default_factory=lambda: list(GAMMA_GRID))
    deltas: list[float] = field(default_factory=lambda: list(DELTA_GRID))
    length_exponents: list[float] = field(default_factory=lambda: list(LENGTH_EXPONENT_GRID))

    def __post_init__(self) -> None:
        _require_lengths(self.name, self.lengths)
        require(self.tokens_per_length >= max(self.lengths), "calibrate.tokens_per_length must hold one longest text")
        for name, allowed in (("gammas", POSITIVE), ("deltas", _ANY), ("length_exponents", _ANY)):
            values = getattr(self, name)
            numbers = isinstance(values, list) and all(isinstance(x, int | float) for x in values)
            require(numbers and bool(values), f"calibrate.{name} must be a list of numbers, got {values!r}")
            for value in values:
                check_number(f"each of calibrate.{name}", value, allowed)


@dataclass
class StageArguments(TrainerArguments):
    """What the trained stages share: TrainingArguments with other defaults, and token-budget batches.

    tokens_per_step: tokens of one batch, padding included (times gradient accumulation and processes).
    lengths: window lengths that texts are cut to; one that is named twice is drawn twice as often.
    pair_fraction: share of the windows that become a pair of texts, [CLS] a [SEP] b [SEP], both in segment 0.
    frozen_scalars: those that are not trained, of gamma, delta, eta, length_exponent.
    """

    dropout: ClassVar[bool] = False

    max_steps: int = 700
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "cosine"
    weight_decay: float = 0.0
    logging_steps: float = 10
    save_steps: float = 100
    tokens_per_step: int = 2048
    lengths: list[int] = field(default_factory=lambda: list(ALIGNMENT_LENGTHS))
    pair_fraction: float = 0.0
    scalar_learning_rate_factor: float = 5.0
    frozen_scalars: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        settle_numbers(self, f"{self.name}.")
        fixed = self.frozen_scalars
        known = isinstance(fixed, list) and all(name in INITIAL for name in fixed)
        require(known, f"{self.name}.frozen_scalars must be a list of {', '.join(INITIAL)}, got {fixed!r}")
        check_number(f"{self.name}.max_steps", self.max_steps, POSITIVE)
        _require_lengths(self.name, self.lengths)
        require(
            self.tokens_per_step >= max(self.lengths),
            f"{self.name}.tokens_per_step ({self.tokens_per_step}) must hold the longest text ({max(self.lengths)})",
        )
        check_number(f"{self.name}.pair_fraction", self.pair_fraction, _UP_TO_ONE)
        self.per_device_train_batch_size = 1  # one item of the data is a whole batch
        super().__post_init__()


@dataclass
class AlignAttentionArguments(StageArguments):
    """Stage "align_attention": q, k, v and the scalars of all layers at once, each fed the teacher's own layer input."""

    name: ClassVar[str] = "align_attention"


@dataclass
class AlignHiddenArguments(StageArguments):
    """Stage "align_hidden": all layers of the student together against the teacher's hidden states.

    cls_weight: how many tokens more the first one weighs, which classifiers read. pooled_weight: how many the
    mean over a text's tokens weighs in the last layer, which sentence embeddings are.
    """

    name: ClassVar[str] = "align_hidden"
    max_steps: int = 600
    learning_rate: float = 3e-4
    cls_weight: float = 64.0
    pooled_weight: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("cls_weight", "pooled_weight"), NOT_NEGATIVE), "align_hidden.")
        super().__post_init__()


@dataclass
class MaskedLMArguments(StageArguments):
    """Stage "masked_lm": DistilBERT's triple loss; needs a teacher with a masked-LM head. Weights as in the paper."""

    name: ClassVar[str] = "masked_lm"
    dropout: ClassVar[bool] = True
    max_steps: int = 1000
    learning_rate: float = 1e-4
    temperature: float = 2.0
    alpha_ce: float = 5.0
    alpha_cos: float = 2.0
    alpha_mlm: float = 1.0

    def __post_init__(self) -> None:
        weights = ("alpha_ce", "alpha_mlm", "alpha_cos")
        check_numbers(self, {"temperature": POSITIVE, **dict.fromkeys(weights, NOT_NEGATIVE)}, "masked_lm.")
        learns = any(getattr(self, name) for name in weights)
        require(learns, f"one of masked_lm's {', '.join(weights)} must be positive, or there is nothing to learn")
        super().__post_init__()


@dataclass
class TeacherCacheConfig:
    """Where a teacher's signals are kept, and as which type; float16 rounds to about 3 digits and halves the size."""

    folder: str
    dtype: str = "float16"

    def __post_init__(self) -> None:
        require(bool(self.folder) and isinstance(self.folder, str), f"folder must be a path, got {self.folder!r}")
        self.folder = os.path.expanduser(self.folder)
        require(self.dtype in _CACHE_DTYPES, f"dtype must be one of {', '.join(_CACHE_DTYPES)}, got {self.dtype!r}")


# What an InhibiDistilBertConfig leaves to the user; everything else has to be as in the teacher.
STUDENT_FIELDS = [
    name
    for name in (f.name for f in dataclasses.fields(InhibiDistilBertConfig))
    if name.startswith("inhibitor_") or name.endswith("dropout")
]
_NOT_OF_A_STAGE = {
    "output_dir": "the run folder decides",
    "per_device_train_batch_size": "tokens_per_step decides",
    "num_train_epochs": "max_steps decides",
}

StageConfig = CalibrateConfig | StageArguments
STAGES: dict[str, type[Any]] = {
    stage.name: stage for stage in (CalibrateConfig, AlignAttentionArguments, AlignHiddenArguments, MaskedLMArguments)
}


@dataclass
class DistillConfig:
    """A whole run: teacher, student, texts and the stages in order.

    teacher: folder or Hub id. layers, segments: as `from_teacher`. student: fields of InhibiDistilBertConfig that do
    not come from the teacher. start: folder or Hub id of a student of this teacher to go on from, instead of the
    teacher's weights; layers still says which teacher layers its layers stand for.
    text: files, folders, Hub ids, or "this-machine"; one or a list. max_texts: how many to take from each source; one
    that is named as {source: number} has its own. row_pairs: also take the two texts of a row together, as tasks on
    pairs have them (so many again at most). held_out: share of the texts, chosen by their hash, that no stage sees.
    teacher_cache: folder in which the teacher's signals are kept for other runs, or {folder: …, dtype: float16 or
    float32}; by default they are computed anew in every step.
    stages: one mapping each, {stage name: its settings}.
    """

    teacher: str
    text: list[Any]
    stages: list[dict[str, dict[str, Any]]]
    layers: str | list[int] = "all"
    segments: str = "auto"
    student: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    max_texts: int | None = None
    row_pairs: bool = False
    held_out: float = HELD_OUT
    teacher_cache: str | dict[str, Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        settle_numbers(self)
        self.teacher, self.start = _as_text(self.teacher), _as_text(self.start)
        require(bool(self.teacher) and isinstance(self.teacher, str), f"teacher must be a name, got {self.teacher!r}")
        self.text = [_as_text(text) for text in (self.text if isinstance(self.text, list) else [self.text])]
        sources = bool(self.text) and all(_is_source(text) for text in self.text)
        require(sources, f"text must name at least one source of texts, got {self.text!r}")
        require(isinstance(self.layers, str | list), f"layers must be a rule or a list, got {self.layers!r}")
        require(
            self.segments in ("auto", "keep", "fold"), f"segments must be auto, keep or fold, got {self.segments!r}"
        )
        for source, count in self.sources:
            require(count is None or count > 0, f"max_texts must be positive, got {count} for {source}")
        check_number("seed", self.seed, SEED)
        # `inhibit evaluate` judges by that share of any source: with less, some of it would have been trained on.
        require(HELD_OUT <= self.held_out < 1, f"held_out must be from {HELD_OUT} to below 1, got {self.held_out}")
        require(isinstance(self.stages, list) and bool(self.stages), f"stages must be a list of {sorted(STAGES)}")
        self.stages = [_stage_mapping(stage) for stage in self.stages]
        require(self.start is None or isinstance(self.start, str), f"start must be a folder or id, got {self.start!r}")
        fixed = [name for name, given in (("student", self.student), ("segments", self.segments != "auto")) if given]
        require(not (self.start and fixed), f"{' and '.join(fixed)} cannot be set together with start, which has them")
        self.student = self.student or {}
        require(isinstance(self.student, dict), f"student must be a mapping of settings, got {self.student!r}")
        for name, value in self.student.items():
            require(name in STUDENT_FIELDS, f"student has no setting {name!r}{close_match(name, STUDENT_FIELDS)}")
            if isinstance(value, int | float) and not isinstance(value, bool):  # other types: by the config, below
                check_number(f"student: {name}", value, SHARE if name.endswith("dropout") else _ANY)
        try:
            InhibiDistilBertConfig(**self.student)
        except (StrictDataclassError, ValueError) as error:
            raise ConfigError(f"student: {str(error).splitlines()[-1].strip()}") from error

        self.build_cache()

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
        own = [text if isinstance(text, dict) else {text: self.max_texts} for text in self.text]
        return [source for entry in own for source in entry.items()]

    @property
    def inputs(self) -> Sources:
        """What the run reads, by name, for `require_apart`."""
        cache = self.build_cache()
        texts = [source for source, _ in self.sources]
        folder = Path(cache.folder) if cache else None
        return {"teacher": self.teacher, "start": self.start, "text": texts, "teacher cache": folder}

    @property
    def stage_names(self) -> list[str]:
        return [name for stage in self.stages for name in stage]

    def build_stage(self, index: int, output_dir: Path, **runtime: Any) -> StageConfig:
        """The checked settings of stage `index`; `runtime` are TrainingArguments that no YAML holds (device, …)."""
        ((name, settings),) = self.stages[index].items()
        if name not in STAGES:
            raise ConfigError(f"unknown stage {name!r}{close_match(name, STAGES)}; known: {sorted(STAGES)}")
        for key, instead in _NOT_OF_A_STAGE.items():
            require(key not in settings, f"stage {name!r}: {key} cannot be set; {instead}")
        given = dict(settings)
        if STAGES[name] is not CalibrateConfig:
            given = {"seed": self.seed} | given | runtime | {"output_dir": str(output_dir)}
        return build(STAGES[name], given, where=f"stage {name!r}")


def _as_text(name: Any) -> Any:
    """A path as YAML holds it, with the home folder in place of "~"; anything else as it is."""
    return os.path.expanduser(name) if isinstance(name, str | Path) else name


def _is_source(text: Any) -> bool:
    named = text if isinstance(text, dict) else {text: None}
    return bool(named) and all(isinstance(s, str) and s and (n is None or type(n) is int) for s, n in named.items())


def _stage_mapping(stage: Any) -> dict[str, dict[str, Any]]:
    require(isinstance(stage, dict) and len(stage) == 1, f"a stage is one mapping {{name: settings}}, got {stage!r}")
    ((name, settings),) = stage.items()
    require(isinstance(settings, dict | None), f"stage {name!r} must hold a mapping of settings, got {settings!r}")
    return {name: settings or {}}


def _require_lengths(stage: str, lengths: Any) -> None:
    whole = isinstance(lengths, list) and bool(lengths) and all(isinstance(n, int) and n >= 8 for n in lengths)
    require(whole, f"{stage}.lengths must be a list of at least 8 tokens each, such as [32, 64], got {lengths!r}")
