"""What a study compares: its rows, its tasks and the schedule that all of them share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from ...tasks import get_task
from ..finetune_arguments import FinetuneArguments
from ..settings import ConfigError, build, require
from ..trained_arguments import require_seed

_DATA_SETTINGS = ("max_train_examples", "max_eval_examples")
_OF_THE_STUDY = {
    "output_dir": "the study's folder decides",
    "learning_rate": "give learning_rates",
    "seed": "give seeds",
}


@dataclass(frozen=True)
class StudyModel:
    """A row of the table. teacher: another row, whose fine-tuned models (same task, same seed) teach this one.

    task_vector: start from what fine-tuning changed in the teacher. training: settings of this row's own.
    learning_rates: a grid of its own. control: the row that this one is compared with.
    """

    model: str
    teacher: str | None = None
    task_vector: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    learning_rates: list[float] | None = None
    control: str | None = None


@dataclass
class StudyConfig:
    """models: the rows by name; tasks: settings of the training that differ per task, and how much data to use.

    learning_rates: the grid, the same for every model. training: settings of `inhibit finetune` for all.
    data: as for `inhibit finetune`. data_seed: draws subsets of the data, the same for all seeds.
    """

    models: dict[str, Any]
    tasks: dict[str, Any]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    learning_rates: list[float] = field(default_factory=lambda: [1e-4])
    training: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    data_seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("models", dict), ("tasks", dict), ("seeds", list), ("learning_rates", list)):
            value = getattr(self, name)
            require(isinstance(value, kind) and bool(value), f"{name} must be a {kind.__name__} of at least one entry")
        self.learning_rates = _rates(self.learning_rates)
        require(all(isinstance(s, int) for s in self.seeds), f"seeds must be whole numbers, got {self.seeds}")
        for seed in self.seeds:
            require_seed(seed, "seeds")
        require_seed(self.data_seed, "data_seed")
        self.rows = {name: study_model(name, given) for name, given in self.models.items()}
        for name, row in self.rows.items():
            for role in ("teacher", "control"):
                other = getattr(row, role)
                require(other is None or other in self.rows, f"models: {name}: {role} {other!r} is none of the models")
            teacher = self.rows[row.teacher] if row.teacher else None
            require(teacher is None or teacher.teacher is None, f"models: {name}: its teacher has a teacher itself")
            require(teacher is not None or not row.task_vector, f"models: {name}: task_vector needs a teacher")
        for task, model in product(self.tasks, self.rows):
            get_task(task)
            grid = self.grid(model)
            arguments = self.arguments(task, model, grid[0], self.seeds[0], Path("unused"))
            require(
                len(grid) == 1 or arguments.selection_share > 0,
                f"tasks: {task}: to choose among learning rates, training needs a selection_share above 0",
            )
            require(
                self.rows[model].teacher is not None or arguments.alignment_epochs == 0,
                f"models: {model}: alignment_epochs needs a teacher; set it in the training of rows that have one",
            )

    def grid(self, model: str) -> list[float]:
        """The learning rates of a row: its own or those of the study."""
        return self.rows[model].learning_rates or self.learning_rates

    def teacher_base(self, model: str) -> str | None:
        """What the teacher of a row was fine-tuned from, if the row starts from the teacher's task vector."""
        row = self.rows[model]
        return self.rows[row.teacher].model if row.teacher and row.task_vector else None

    def arguments(self, task: str, model: str, learning_rate: float, seed: int, output: Path) -> FinetuneArguments:
        """The checked settings of one fine-tuning: those of all, then the task's, then the row's."""
        of_task = {name: value for name, value in (self.tasks[task] or {}).items() if name not in _DATA_SETTINGS}
        settings = self.training | of_task | self.rows[model].training
        for name, instead in _OF_THE_STUDY.items():
            require(name not in settings, f"{name} cannot be set in training, tasks or models; {instead}")
        settings |= {"learning_rate": learning_rate, "seed": seed, "output_dir": str(output)}
        arguments: FinetuneArguments = build(FinetuneArguments, settings, where=f"training of {model} on {task}")
        return arguments

    def data_settings(self, task: str) -> dict[str, Any]:
        """How much of the task's data to use."""
        return {name: value for name, value in (self.tasks[task] or {}).items() if name in _DATA_SETTINGS}


def study_model(name: Any, given: Any) -> StudyModel:
    """The checked row of a model that may be given by its name alone. Raises ConfigError."""
    plain = isinstance(name, str) and re.fullmatch(r"\w[\w ,.+]*", name) is not None  # they become folders
    require(plain, f"models: a name must be of letters, digits, blanks and _,.+ and not {name!r}")
    require(isinstance(given, str | dict), f"models: {name} must be a model or a mapping, got {given!r}")
    row: StudyModel = build(StudyModel, {"model": given} if isinstance(given, str) else given, where=f"models: {name}")
    require(isinstance(row.training, dict), f"models: {name}: training must be a mapping, got {row.training!r}")
    return row if row.learning_rates is None else replace(row, learning_rates=_rates(row.learning_rates))


def _rates(given: Any) -> list[float]:
    try:  # YAML 1.1 reads 1e-4 as a string
        rates = [float(rate) for rate in given]
    except (TypeError, ValueError):
        raise ConfigError(f"learning_rates must be numbers, got {given}") from None
    require(bool(rates), "learning_rates must be a list of at least one entry")
    return rates
