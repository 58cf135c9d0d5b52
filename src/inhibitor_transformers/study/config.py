"""The settings of a study: its rows, its tasks and the schedule that all of them share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..common.inputs import Sources
from ..common.number_ranges import POSITIVE, SEED, check_number
from ..common.settings import ConfigError, build, require
from ..distill.task.arguments import FinetuneArguments
from ..distill.teacher.storage import CACHE
from .tasks import study_task

_SET_BY_THE_STUDY = {
    "output_dir": "the study's folder decides",
    "learning_rate": "give learning_rates",
    "seed": "give seeds",
}


@dataclass(frozen=True)
class StudyModel:
    """A row of the table. teacher: another row, whose fine-tuned models (same task, same seed) teach this one.

    model: folder or Hub id. task_vector: start from what fine-tuning changed in the teacher. training: settings of this
    row's own. learning_rates: a grid of its own. baseline: the row that this one is compared with.
    """

    model: str
    teacher: str | None = None
    task_vector: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    learning_rates: list[float] | None = None
    baseline: str | None = None


@dataclass
class StudyConfig:
    """models: the rows by name; tasks: by name, settings of the training that differ per task, and its data.

    A task is a known one, "custom", or one's own data under any other name, with `data` (`StudyTask`).

    learning_rates: the grid, the same for every model. training: settings of `inhibit finetune` for all.
    data: folder (or file) of the tasks' data; None loads it from the Hub. data_seed: draws subsets of the data and what
    is held out, the same for all seeds.
    """

    models: dict[str, Any]
    tasks: dict[str, Any]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    learning_rates: list[float] = field(default_factory=lambda: [1e-4])
    training: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    data_seed: int = 0

    def __post_init__(self) -> None:
        self._require_types()
        self.learning_rates = _check_rates(self.learning_rates)
        self._require_seeds()
        self.study_tasks = {name: study_task(name, given, self.data) for name, given in self.tasks.items()}
        self.rows = {name: study_model(name, given) for name, given in self.models.items()}
        self._require_rows()
        for task, model in product(self.tasks, self.rows):
            self._require_training(task, model)

    @property
    def inputs(self) -> Sources:
        """What the study reads, by name, for `require_apart`."""
        return {
            "model": [row.model for row in self.rows.values()],
            "data": [task.data for task in self.study_tasks.values()],
            CACHE: self.caches,
        }

    @property
    def caches(self) -> list[Path]:
        """The folders in which fine-tunings keep their teachers' logits."""
        of_rows, of_tasks = (r.training for r in self.rows.values()), (t.training for t in self.study_tasks.values())
        given = [settings.get("teacher_cache") for settings in (self.training, *of_rows, *of_tasks)]
        return [Path(cache) for cache in given if cache]

    def grid(self, model: str) -> list[float]:
        """The learning rates of a row: its own or those of the study."""
        return self.rows[model].learning_rates or self.learning_rates

    def teacher_base(self, model: str) -> str | None:
        """What the teacher of a row was fine-tuned from, if the row starts from the teacher's task vector."""
        row = self.rows[model]
        return self.rows[row.teacher].model if row.teacher and row.task_vector else None

    def arguments(self, task: str, model: str, learning_rate: float, seed: int, output: Path) -> FinetuneArguments:
        """The checked settings of one fine-tuning: those of all, then the task's, then the row's."""
        settings = self.training | self.study_tasks[task].training | self.rows[model].training
        for name, instead in _SET_BY_THE_STUDY.items():
            require(name not in settings, f"{name} cannot be set in training, tasks or models; {instead}")
        settings |= {"learning_rate": learning_rate, "seed": seed, "output_dir": str(output)}
        settings["disable_tqdm"] = True  # lines, not bars, in the log
        arguments: FinetuneArguments = build(FinetuneArguments, settings, where=f"training of {model} on {task}")
        return arguments

    def replace_models(self, sources: Mapping[str, str]) -> StudyConfig:
        """The study with other folders or Hub ids for models that its rows name: new source by old source.

        Raises ConfigError for a source that no row names.
        """
        known = dict.fromkeys(row.model for row in self.rows.values())
        for source in sources:
            require(source in known, f"no row of the study has the model {source!r}; there are {', '.join(known)}")
        rows = {name: asdict(row) | {"model": sources.get(row.model, row.model)} for name, row in self.rows.items()}
        return replace(self, models=rows)

    def _require_types(self) -> None:
        for name, kind in (("models", dict), ("tasks", dict), ("seeds", list), ("learning_rates", list)):
            value = getattr(self, name)
            require(isinstance(value, kind) and bool(value), f"{name} must be a {kind.__name__} of at least one entry")
        require(isinstance(self.training, dict), f"training must be a mapping of settings, got {self.training!r}")
        data = self.data
        require(data is None or (isinstance(data, str) and bool(data)), f"data must be a file or folder, got {data!r}")

    def _require_seeds(self) -> None:
        require(all(type(s) is int for s in self.seeds), f"seeds must be whole numbers, got {self.seeds}")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds must differ from each other, got {self.seeds}")
        for seed in self.seeds:
            check_number("each of seeds", seed, SEED)
        check_number("data_seed", self.data_seed, SEED)

    def _require_rows(self) -> None:
        """Teachers and baselines must be rows; a teacher has no teacher itself."""
        for name, row in self.rows.items():
            for role in ("teacher", "baseline"):
                other = getattr(row, role)
                require(other is None or other in self.rows, f"models: {name}: {role} {other!r} is none of the models")
            teacher = self.rows[row.teacher] if row.teacher else None
            require(teacher is None or teacher.teacher is None, f"models: {name}: its teacher has a teacher itself")
            require(teacher is not None or not row.task_vector, f"models: {name}: task_vector needs a teacher")

    def _require_training(self, task: str, model: str) -> None:
        grid = self.grid(model)
        arguments = self.arguments(task, model, grid[0], self.seeds[0], Path("unused"))
        require(
            len(grid) == 1 or arguments.selection_fraction > 0,
            f"tasks: {task}: to choose among learning rates, training needs a selection_fraction above 0",
        )
        require(
            self.rows[model].teacher is not None or arguments.alignment_epochs == 0,
            f"models: {model}: alignment_epochs needs a teacher; set it in the training of rows that have one",
        )


def study_model(name: Any, given: Any) -> StudyModel:
    """The checked row of a model that may be given by its name alone. Raises ConfigError."""
    plain = isinstance(name, str) and re.fullmatch(r"\w[\w ,.+]*", name) is not None  # they become folders
    require(plain, f"models: a name must be of letters, digits, blanks and _,.+ and not {name!r}")
    require(isinstance(given, str | dict), f"models: {name} must be a model or a mapping, got {given!r}")
    row: StudyModel = build(StudyModel, {"model": given} if isinstance(given, str) else given, where=f"models: {name}")
    require(bool(row.model) and isinstance(row.model, str), f"models: {name}: model must be a name, got {row.model!r}")
    for role in ("teacher", "baseline"):
        other = getattr(row, role)
        require(other is None or isinstance(other, str), f"models: {name}: {role} must be a name, got {other!r}")
    require(isinstance(row.training, dict), f"models: {name}: training must be a mapping, got {row.training!r}")
    return row if row.learning_rates is None else replace(row, learning_rates=_check_rates(row.learning_rates))


def _check_rates(given: Any) -> list[float]:
    try:  # YAML 1.1 reads 1e-4 as a string
        if not isinstance(given, list) or any(isinstance(rate, bool) for rate in given):
            raise TypeError
        rates = [float(rate) for rate in given]
    except (TypeError, ValueError):
        raise ConfigError(f"learning_rates must be numbers, got {given}") from None
    require(bool(rates), "learning_rates must be a list of at least one entry")
    for rate in rates:
        check_number("each of learning_rates", rate, POSITIVE)
    require(len(set(rates)) == len(rates), f"learning_rates must differ from each other, got {given}")
    return rates
