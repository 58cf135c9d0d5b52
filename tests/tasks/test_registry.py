"""The task table against the published facts of GLUE and IMDB."""

import dataclasses

import pytest

from inhibitor_transformers.tasks.registry import TASKS, Task, get_task


def test_nine_glue_tasks_and_imdb():
    assert set(TASKS) == {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli", "imdb"}
    assert all(name == task.name for name, task in TASKS.items())


@pytest.mark.parametrize(
    ("name", "main_metric", "num_labels", "is_pair"),
    [
        ("cola", "matthews_correlation", 2, False),
        ("sst2", "accuracy", 2, False),
        ("mrpc", "f1", 2, True),
        ("qqp", "accuracy", 2, True),
        ("stsb", "pearson", 1, True),
        ("mnli", "accuracy", 3, True),
        ("qnli", "accuracy", 2, True),
        ("rte", "accuracy", 2, True),
        ("wnli", "accuracy", 2, True),
        ("imdb", "accuracy", 2, False),
    ],
)
def test_properties(name, main_metric, num_labels, is_pair):
    task = get_task(name)
    assert (task.main_metric, task.num_labels, task.is_pair) == (main_metric, num_labels, is_pair)


def test_problem_types():
    assert get_task("stsb").problem_type == "regression"
    assert get_task("stsb").is_regression
    assert get_task("sst2").problem_type == "single_label_classification"
    assert not get_task("sst2").is_regression


def test_where_data_comes_from():
    assert (get_task("mnli").hub_id, get_task("mnli").hub_config) == ("nyu-mll/glue", "mnli")
    assert get_task("mnli").evaluation_splits == ("validation_matched", "validation_mismatched")
    assert (get_task("imdb").hub_id, get_task("imdb").evaluation_splits) == ("stanfordnlp/imdb", ("test",))
    assert (get_task("imdb").group, get_task("rte").group) == ("imdb", "glue")


def test_entailment_is_class_0_but_for_wnli():
    assert [get_task(name).label_names.index("entailment") for name in ("mnli", "qnli", "rte", "wnli")] == [0, 0, 0, 1]


@pytest.mark.parametrize("spelling", ["SST-2", "sst2", "sst_2"])
def test_spellings(spelling):
    assert get_task(spelling).name == "sst2"


def test_unknown_task_names_the_known_and_the_way_to_own_data():
    with pytest.raises(ValueError, match=r"unknown task 'sts'; known: cola, sst2, .*imdb.*'custom'"):
        get_task("sts")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_columns": ()}, "one or two text columns"),
        ({"text_columns": ("a", "b", "c")}, "one or two text columns"),
        ({"label_names": ("only",)}, "at least two labels"),
        ({"metrics": ()}, "metrics must be among"),
        ({"metrics": ("bleu",)}, r"metrics must be among .*got \['bleu'\]"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(get_task("sst2"), **change)


def test_tasks_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_task("sst2").name = "other"
    assert isinstance(get_task("sst2"), Task)
