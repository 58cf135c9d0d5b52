"""What a fine-tuning scored, and results.json, which keeps it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.settings import load_record, require
from ..output_dir import write_json
from ..training.checkpoints import model_fault

RESULTS = "results.json"  # written last: a run that has it is finished
Scores = dict[str, dict[str, float]]  # split -> metric -> value


@dataclass(frozen=True)
class FinetuneResult:
    """Scores of the best epoch on every evaluation split, those of the teacher, and the wall time in seconds.

    initial_scores: before training, of a model that starts from its teacher's task vector.
    aligned_scores: after its hidden states were aligned, before it has seen a label.
    selection_score: the main metric that the best epoch was chosen by.
    """

    scores: Scores
    teacher_scores: Scores | None
    initial_scores: Scores | None
    aligned_scores: Scores | None
    selection_score: float | None
    seconds: float

    def save(self, folder: Path, settings: dict[str, Any], notes: list[str]) -> None:
        """Write RESULTS, with the settings of the run and what was done to its data."""
        write_json(folder / RESULTS, dataclasses.asdict(self) | {"settings": settings, "notes": notes})


def load_finished(folder: Path) -> FinetuneResult | None:
    """The result of a run that ended, and whose model is there and can be loaded; None for any other.

    Raises ConfigError if RESULTS is damaged.
    """
    file = folder / RESULTS
    if not file.exists() or model_fault(folder) is not None:
        return None
    cure = "delete it, and this fine-tuning is run again"
    record = load_record(file, cure)
    names = [field.name for field in dataclasses.fields(FinetuneResult)]
    missing = [name for name in names if name not in record]
    require(not missing, f"{file} is damaged or of an earlier version: it has no {', '.join(missing)}; {cure}")
    return FinetuneResult(**{name: record[name] for name in names})
