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

REFUSED = "refused.txt"  # there when it makes no sense, with the reason


@dataclass(frozen=True)
class Cell:
    """One fine-tuning of a study."""

    task: str
    model: str
    learning_rate: float
    seed: int

    def folder(self, output: Path) -> Path:
        return (
            output
            / self.task
            / self.model.replace(" ", "-")
            / f"lr-{_rate_name(self.learning_rate)}"
            / f"seed-{self.seed}"
        )


def _rate_name(rate: float) -> str:
    """Short, and another one for every rate."""
    short = f"{rate:g}"
    return short if float(short) == rate else repr(rate)


class Study:
    """The fine-tunings of a study in one folder: those that are finished, and those that can be run now."""

    def __init__(self, config: StudyConfig, output: Path) -> None:
        self.config, self.output = config, output

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """results.json of a finished fine-tuning."""
        file = cell.folder(self.output) / RESULTS
        return load_record(file, "delete it, and this fine-tuning is run again") if file.exists() else None

    def refused(self, cell: Cell) -> bool:
        """Whether the teacher was found to be no better than chance, so that there is nothing to distill."""
        return (cell.folder(self.output) / REFUSED).exists()

    def learning_rate(self, task: str, model: str) -> float | None:
        """The one of the grid with the best held-out score; None while some of the grid is not finished."""
        grid = self._grid(task, model)
        if len(grid) == 1:
            return grid[0].learning_rate
        scores = {c.learning_rate: r["selection_score"] for c in grid if (r := self.result(c)) is not None}
        return max(scores, key=scores.__getitem__) if len(scores) == len(grid) else None

    def cells(self, task: str, model: str) -> list[Cell]:
        """The fine-tunings that make a cell of the table, one per seed; none while the learning rate is open."""
        rate = self.learning_rate(task, model)
        return [Cell(task, model, rate, seed) for seed in self.config.seeds] if rate is not None else []

    def pending(self) -> Iterator[Cell]:
        """What can be run now: the first seed of all tasks comes first, then the next."""
        for seed in self.config.seeds:
            for model in self.config.rows:
                for task in self.config.tasks:
                    for cell in self._every(task, model):
                        if cell.seed == seed and self._can_run(cell):
                            yield cell

    def finished(self) -> Iterator[Cell]:
        """Those with results."""
        for task, model in product(self.config.tasks, self.config.rows):
            yield from (cell for cell in self._every(task, model) if self.result(cell) is not None)

    def count_left(self) -> int:
        """How many are to be run, none of them failing or refused; of an open grid, the best rate counts already."""
        left = 0
        for task, model in product(self.config.tasks, self.config.rows):
            every = list(self._every(task, model))
            more = 0 if self.learning_rate(task, model) is not None else len(self.config.seeds) - 1
            left += sum(not self._ended(cell) or self._must_run_again(cell) for cell in every) + more
        return left

    def teacher_folder(self, cell: Cell) -> Path | None:
        """The fine-tuned teacher of a cell, or None if it has none."""
        teacher = self.config.rows[cell.model].teacher
        if teacher is None:
            return None
        (own,) = (c for c in self.cells(cell.task, teacher) if c.seed == cell.seed)
        return own.folder(self.output)

    def is_teacher(self, model: str) -> bool:
        return any(row.teacher == model for row in self.config.rows.values())

    def _grid(self, task: str, model: str) -> list[Cell]:
        return [Cell(task, model, rate, self.config.seeds[0]) for rate in self.config.grid(model)]

    def _every(self, task: str, model: str) -> Iterable[Cell]:
        """The grid with the first seed, and with all seeds the rate that it has chosen."""
        return dict.fromkeys([*self._grid(task, model), *self.cells(task, model)])

    def _ended(self, cell: Cell) -> bool:
        return self.result(cell) is not None or self.refused(cell)

    def _can_run(self, cell: Cell) -> bool:
        if self._ended(cell):
            return self._must_run_again(cell)
        teacher = self.config.rows[cell.model].teacher
        needed = self.cells(cell.task, teacher) if teacher else []
        return teacher is None or any(c.seed == cell.seed and self._can_teach(c) for c in needed)

    def _can_teach(self, cell: Cell) -> bool:
        return self.result(cell) is not None and (cell.folder(self.output) / SAFE_WEIGHTS_NAME).exists()

    def _must_run_again(self, cell: Cell) -> bool:
        """Whether its weights, deleted when no row was taught by it, are needed by one that was added since."""
        if self._can_teach(cell) or cell not in self.cells(cell.task, cell.model):
            return False
        taught = [name for name, row in self.config.rows.items() if row.teacher == cell.model]
        return any(c.seed == cell.seed and not self._ended(c) for name in taught for c in self._every(cell.task, name))
