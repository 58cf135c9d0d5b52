"""Studies that tests share: their settings, and fine-tunings that look finished."""

from __future__ import annotations

import json
from typing import Any

from inhibitor_transformers.study import Run, Study, StudyConfig

MODELS: dict[str, Any] = {
    "teacher": "t",
    "baseline": "c",
    "student": {"model": "s", "baseline": "baseline"},
    "taught": {"model": "s", "teacher": "teacher", "baseline": "baseline"},
}


def config(**given: Any) -> StudyConfig:
    settings: dict[str, Any] = {"models": MODELS, "tasks": {"sst2": {}, "cola": {}}, "seeds": [0, 1]}
    return StudyConfig(**(settings | given))


def finish(study: Study, run: Run, value: float, selection: float | None = None) -> None:
    folder = run.folder(study.output)
    folder.mkdir(parents=True, exist_ok=True)
    metric = {"sst2": "accuracy", "cola": "matthews_correlation"}[run.task]
    record = {"scores": {"validation": {metric: value}}, "selection_score": selection}
    (folder / "results.json").write_text(json.dumps(record))
    if study.is_teacher(run.model):
        (folder / "model.safetensors").touch()
