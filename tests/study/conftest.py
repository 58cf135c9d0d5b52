"""What the tests of studies share."""

from __future__ import annotations

import pytest

from inhibitor_transformers.study import StudyConfig
from tests.distill.conftest import teacher_path
from tests.distill.fine_tuning import FAST, write
from tests.distill.tiny import reviews

__all__ = ["teacher_path"]


@pytest.fixture(scope="session")
def small(tmp_path_factory, teacher_path) -> StudyConfig:
    """Two rows of the same tiny model, one taught by the other, on a task of a few sentences."""
    data = tmp_path_factory.mktemp("data")
    folder = data / "sst2"
    for split, rows in (("train", reviews(240)), ("validation", reviews(40, seed=1))):
        write(folder, split, [{"sentence": row["text"], "label": row["label"]} for row in rows])
    return StudyConfig(
        models={
            "teacher": teacher_path,
            "taught": {"model": teacher_path, "teacher": "teacher", "baseline": "teacher"},
        },
        tasks={"sst2": {}},
        seeds=[0],
        learning_rates=[1e-3, 3e-3],
        training={k: v for k, v in FAST.items() if k != "learning_rate"} | {"selection_fraction": 0.2},
        data=str(data),
    )
