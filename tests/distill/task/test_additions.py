"""A metric and a task that are added from outside the package, each by one entry."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from inhibitor_transformers.distill.task.teacher import TeacherAtChanceError
from inhibitor_transformers.study import StudyConfig
from inhibitor_transformers.tasks import (
    METRICS,
    TASKS,
    Metric,
    Task,
    TaskData,
    chance_level,
    compute_metrics,
    load_task,
)
from tests.distill.fine_tuning import run, write
from tests.distill.tiny import reviews


def recall(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over the classes of how many of their examples were found."""
    return float(np.mean([np.mean(predicted[truth == label] == label) for label in np.unique(truth)]))


@pytest.fixture
def mean_recall(monkeypatch) -> str:
    """A metric, added."""
    monkeypatch.setitem(METRICS, "mean_recall", Metric(recall, best_constant=lambda truth: 0))
    return "mean_recall"


@pytest.fixture
def kind_words(monkeypatch, mean_recall) -> Iterator[Task]:
    """A task, added, that is scored by the added metric."""
    task = Task(
        name="kind_words",
        text_columns=("remark",),
        label_column="kind",
        label_names=("unkind", "kind"),
        metrics=(mean_recall, "accuracy"),
        hub_id="someone/kind-words",
        hub_config=None,
        train_split="train",
        evaluation_splits=("validation",),
    )
    monkeypatch.setitem(TASKS, task.name, task)
    return task


@pytest.fixture
def kind_data(kind_words, tmp_path) -> TaskData:
    folder = tmp_path / "data" / "kind_words"
    folder.mkdir(parents=True)
    for split, rows in (("train", reviews(240)), ("validation", reviews(60, seed=1))):
        write(folder, split, [{"remark": row["text"], "kind": row["label"]} for row in rows])
    return load_task("Kind-Words", folder.parent)


def test_the_metric_is_computed_and_has_a_chance_level(kind_words):
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert compute_metrics(kind_words, logits, [0, 1, 1]) == {
        "mean_recall": pytest.approx(0.75),
        "accuracy": pytest.approx(2 / 3),
    }
    assert chance_level(kind_words, [0, 1, 1]) == 0.5


def test_a_model_is_fine_tuned_on_the_task_and_chosen_by_the_metric(kind_data, student_path, tmp_path):
    result = run(student_path, kind_data, tmp_path / "run")
    assert list(result.scores["validation"]) == ["mean_recall", "accuracy"]
    assert result.selection_score == result.scores["validation"]["mean_recall"] > 0.9
    assert json.loads((tmp_path / "run/results.json").read_text())["settings"]["task"] == "kind_words"


def test_its_teacher_must_beat_the_chance_level_of_the_metric(kind_data, student_path, tmp_path, monkeypatch):
    run(student_path, kind_data, tmp_path / "teacher", max_steps=1)
    monkeypatch.setitem(METRICS, "mean_recall", Metric(lambda truth, predicted: 0.5, best_constant=lambda truth: 0))
    with pytest.raises(TeacherAtChanceError, match=r"mean_recall 0\.5000 against 0\.5000"):
        run(student_path, kind_data, tmp_path / "run", teacher_source=str(tmp_path / "teacher"))


def test_a_study_knows_the_task(kind_data):
    study = StudyConfig(models={"a": "b"}, tasks={"kind_words": {}}, data=str(kind_data.source))
    assert not study.study_tasks["kind_words"].is_own
    assert study.study_tasks["kind_words"].load(0).task == kind_data.task


def test_a_metric_that_was_not_added(kind_words):
    with pytest.raises(ValueError, match=r"metrics must be among .*'mean_recall'.*got \['bleu'\]"):
        Task(**(vars(kind_words) | {"metrics": ("bleu",)}))
