"""The fine-tunings of a study: which are finished, and which can be run now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from transformers.utils import SAFE_WEIGHTS_NAME

from ..common.settings import load_record
from ..distill.task.result import RESULTS
from .config import StudyConfig

SKIPPED = "skipped.txt"  # the reason, if a run makes no sense


@dataclass(frozen=True)
class Run:
    """One fine-tuning of a study."""

    task: str
    model: str
    learning_rate: float
    seed: int

    def __str__(self) -> str:
        """Its folder within the study's."""
        model, rate = self.model.replace(" ", "-"), _format_rate(self.learning_rate)
        return f"{self.task}/{model}/lr-{rate}/seed-{self.seed}"

    def folder(self, output: Path) -> Path:
        """Where it lies in the folder of the study."""
        return output / str(self)


def _format_rate(rate: float) -> str:
    """A short name, and another one for every rate."""
    short = f"{rate:g}"
    return short if float(short) == rate else repr(rate)


class Study:
    """The fine-tunings of a study in one folder: those that are finished, and those that can be run now."""

    def __init__(self, config: StudyConfig, output: Path) -> None:
        self.config, self.output = config, output

    def result(self, run: Run) -> dict[str, Any] | None:
        """results.json of a finished fine-tuning."""
        file = run.folder(self.output) / RESULTS
        return load_record(file, "delete it, and this fine-tuning is run again") if file.exists() else None

    def is_skipped(self, run: Run) -> bool:
        """Whether the teacher was found to be no better than chance, so that there is nothing to distill."""
        return (run.folder(self.output) / SKIPPED).exists()

    def learning_rate(self, task: str, model: str) -> float | None:
        """The one of the grid with the best held-out score; None while some of the grid is not finished."""
        grid = self._grid(task, model)
        if len(grid) == 1:
            return grid[0].learning_rate
        scores = {run.learning_rate: r["selection_score"] for run in grid if (r := self.result(run)) is not None}
        return max(scores, key=scores.__getitem__) if len(scores) == len(grid) else None

    def runs(self, task: str, model: str) -> list[Run]:
        """The fine-tunings behind one number of the table, one per seed; none while the learning rate is open."""
        rate = self.learning_rate(task, model)
        return [Run(task, model, rate, seed) for seed in self.config.seeds] if rate is not None else []

    def pending(self) -> Iterator[Run]:
        """What can be run now: the first seed of all tasks comes first, then the next."""
        for seed in self.config.seeds:
            for model in self.config.rows:
                for task in self.config.tasks:
                    for run in self._possible(task, model):
                        if run.seed == seed and self._can_run(run):
                            yield run

    def finished(self) -> Iterator[Run]:
        """Those with results."""
        for task, model in product(self.config.tasks, self.config.rows):
            yield from (run for run in self._possible(task, model) if self.result(run) is not None)

    def count_left(self) -> int:
        """How many are to be run, none of them failing or skipped; of an open grid, the best rate counts already."""
        left = 0
        for task, model in product(self.config.tasks, self.config.rows):
            possible = list(self._possible(task, model))
            more = 0 if self.learning_rate(task, model) is not None else len(self.config.seeds) - 1
            left += sum(not self._is_done(run) or self._must_run_again(run) for run in possible) + more
        return left

    def teacher_folder(self, run: Run) -> Path | None:
        """The fine-tuned teacher of a run: same task, same seed; None if it has none."""
        teacher = self._find_teacher(run)
        return None if teacher is None else teacher.folder(self.output)

    def is_teacher(self, model: str) -> bool:
        """Whether another row is taught by this one, so that its weights are kept."""
        return any(row.teacher == model for row in self.config.rows.values())

    def _grid(self, task: str, model: str) -> list[Run]:
        return [Run(task, model, rate, self.config.seeds[0]) for rate in self.config.grid(model)]

    def _possible(self, task: str, model: str) -> Iterable[Run]:
        """The grid with the first seed, and with all seeds the rate that it has chosen."""
        return dict.fromkeys([*self._grid(task, model), *self.runs(task, model)])

    def _is_done(self, run: Run) -> bool:
        return self.result(run) is not None or self.is_skipped(run)

    def _can_run(self, run: Run) -> bool:
        if self._is_done(run):
            return self._must_run_again(run)
        if self.config.rows[run.model].teacher is None:
            return True
        teacher = self._find_teacher(run)
        return teacher is not None and self._can_teach(teacher)

    def _find_teacher(self, run: Run) -> Run | None:
        """The run whose model teaches this one; None for a row without teacher, or while its learning rate is open."""
        teacher = self.config.rows[run.model].teacher
        runs = self.runs(run.task, teacher) if teacher else []
        return next((other for other in runs if other.seed == run.seed), None)

    def _can_teach(self, run: Run) -> bool:
        return self.result(run) is not None and (run.folder(self.output) / SAFE_WEIGHTS_NAME).exists()

    def _must_run_again(self, run: Run) -> bool:
        """Whether its weights, deleted when no row was taught by it, are needed by one that was added since."""
        if self._can_teach(run) or run not in self.runs(run.task, run.model):
            return False
        taught = [name for name, row in self.config.rows.items() if row.teacher == run.model]
        runs = (other for name in taught for other in self._possible(run.task, name))
        return any(other.seed == run.seed and not self._is_done(other) for other in runs)
