"""Configuration: one dataclass per stage, checked when built; YAML gives defaults, flags override."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml
from transformers import TrainingArguments

ALIGNMENT_LENGTHS = (32, 64, 128, 256)


class ConfigError(ValueError):
    """A setting that is unknown, missing or out of range."""


@dataclass
class CalibrateConfig:
    """Stage "calibrate": scalars by grid and least squares; no training.

    lengths: text lengths in tokens; tokens_per_length: how many tokens of each are used.
    """

    name: ClassVar[str] = "calibrate"
    lengths: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 256])
    tokens_per_length: int = 1024

    def __post_init__(self) -> None:
        require(bool(self.lengths) and min(self.lengths) >= 8, "calibrate.lengths must be at least 8 tokens each")
        require(self.tokens_per_length >= max(self.lengths), "calibrate.tokens_per_length must hold one longest text")


@dataclass
class StageArguments(TrainingArguments):
    """What the trained stages share: TrainingArguments with other defaults, and token-budget batches.

    tokens_per_step: tokens of one batch, padding included (times gradient accumulation and processes).
    lengths: window lengths that texts are cut to.
    scalar_learning_rate_factor: learning rate of γ, δ, η, ρ over that of the weights.
    """

    name: ClassVar[str] = ""
    dropout: ClassVar[bool] = False

    max_steps: int = 700
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.1
    weight_decay: float = 0.0
    logging_steps: float = 10
    save_steps: float = 100
    save_total_limit: int | None = 2
    remove_unused_columns: bool | None = False
    report_to: str | None = "none"
    disable_tqdm: bool | None = None
    tokens_per_step: int = 2048
    lengths: list[int] = field(default_factory=lambda: list(ALIGNMENT_LENGTHS))
    scalar_learning_rate_factor: float = 5.0

    def __post_init__(self) -> None:
        require(self.max_steps > 0, f"{self.name}.max_steps must be positive, got {self.max_steps}")
        require(bool(self.lengths) and min(self.lengths) >= 8, f"{self.name}.lengths must be at least 8 tokens each")
        require(
            self.tokens_per_step >= max(self.lengths),
            f"{self.name}.tokens_per_step ({self.tokens_per_step}) must hold the longest text ({max(self.lengths)})",
        )
        require(self.scalar_learning_rate_factor >= 0, f"{self.name}.scalar_learning_rate_factor must not be negative")
        self.per_device_train_batch_size = 1  # one item of the data is a whole batch
        super().__post_init__()


@dataclass
class AlignContextsArguments(StageArguments):
    """Stage "align_contexts": q, k, v and the scalars of all layers at once, each fed the teacher's own layer input."""

    name: ClassVar[str] = "align_contexts"


@dataclass
class AlignHiddenArguments(StageArguments):
    """Stage "align_hidden": the whole student against the teacher's hidden states of every layer."""

    name: ClassVar[str] = "align_hidden"
    max_steps: int = 600
    learning_rate: float = 3e-4


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
        require(self.temperature > 0, f"masked_lm.temperature must be positive, got {self.temperature}")
        super().__post_init__()


StageConfig = CalibrateConfig | StageArguments
STAGES: dict[str, type[Any]] = {
    stage.name: stage for stage in (CalibrateConfig, AlignContextsArguments, AlignHiddenArguments, MaskedLMArguments)
}


@dataclass
class DistillConfig:
    """A whole run: teacher, student, texts and the stages in order.

    teacher: folder or Hub id. layers, segments: as `from_teacher`. student: fields of InhibiDistilBertConfig.
    text: files, folders, Hub ids, or "this-machine". max_texts: how many to take from each source. held_out: share
    of the texts, chosen by their hash, that no stage sees.
    stages: one mapping each, {stage name: its settings}.
    """

    teacher: str
    text: list[str]
    stages: list[dict[str, dict[str, Any]]]
    layers: str | list[int] = "all"
    segments: str = "auto"
    student: dict[str, Any] = field(default_factory=dict)
    max_texts: int | None = None
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require(bool(self.text), "text must name at least one source of texts")
        require(bool(self.stages), f"stages must name at least one of {sorted(STAGES)}")
        for stage in self.stages:
            require(
                isinstance(stage, dict) and len(stage) == 1, f"a stage is one mapping {{name: settings}}, got {stage!r}"
            )
        self.stages = [{name: settings or {}} for stage in self.stages for name, settings in stage.items()]

    @property
    def stage_names(self) -> list[str]:
        return [name for stage in self.stages for name in stage]

    def build_stage(self, index: int, output_dir: Path, **runtime: Any) -> StageConfig:
        """The checked settings of stage `index`; `runtime` are TrainingArguments that no YAML holds (device, …)."""
        ((name, settings),) = self.stages[index].items()
        if name not in STAGES:
            raise ConfigError(f"unknown stage {name!r}{_close(name, STAGES)}; known: {sorted(STAGES)}")
        given = dict(settings)
        if STAGES[name] is not CalibrateConfig:
            given = {"seed": self.seed} | given | runtime | {"output_dir": str(output_dir)}
        return build(STAGES[name], given, where=f"stage {name!r}")


def load_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises ConfigError if it cannot be read or is no mapping."""
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, found {type(loaded).__name__}")
    return loaded


def override(settings: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply "key=value" assignments; "stage.key=value" sets it in every stage of that name. Values are YAML."""
    result = yaml.safe_load(yaml.safe_dump(settings))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"cannot read {assignment!r}; write key=value, or stage.key=value")
        stage, dot, name = key.rpartition(".")
        if not dot:
            result[key] = yaml.safe_load(value)
            continue
        targets = [s for s in result.get("stages", []) if stage in s]
        if not targets:
            raise ConfigError(f"{assignment!r}: this run has no stage {stage!r}")
        for target in targets:
            target[stage] = (target[stage] or {}) | {name: yaml.safe_load(value)}
    return result


def build(cls: type[Any], settings: dict[str, Any], *, where: str) -> Any:
    """`cls(**settings)`; raises ConfigError naming unknown or missing settings."""
    names = {f.name for f in dataclasses.fields(cls) if f.init}
    for key in settings:
        if key not in names:
            raise ConfigError(f"{where} has no setting {key!r}{_close(key, names)}")
    required = {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - settings.keys()):
        raise ConfigError(f"{where} needs {', '.join(missing)}")
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    try:
        # YAML 1.1 reads 1e-3 as a string
        numbers = {k: float(v) for k, v in settings.items() if isinstance(v, str) and isinstance(defaults[k], float)}
        return cls(**(settings | numbers))
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _close(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)
