"""Columns to checked examples: every way in which a row can be wrong is named."""

import pytest

from inhibitor_transformers.tasks.examples import hub_columns, to_dataset
from inhibitor_transformers.tasks.own_data import infer_task
from inhibitor_transformers.tasks.registry import get_task

NAN = float("nan")


def one(name, texts, label, row=1):
    """Columns of `name` with good rows before the one given."""
    task = get_task(name)
    good = 0
    columns = {column: ["fine"] * (row - 1) + [text] for column, text in zip(task.text_columns, texts, strict=True)}
    return {**columns, "label": [good] * (row - 1) + [label]}


@pytest.mark.parametrize(("label", "expected"), [(2, 2), ("2", 2), (2.0, 2), ("contradiction", 2), (" entailment ", 0)])
def test_forms_of_a_class(label, expected):
    dataset = to_dataset(one("mnli", ("a", "b"), label), get_task("mnli"), "file", [])
    assert dataset["label"][:] == [expected]
    assert dataset.features["label"].dtype == "int64"


@pytest.mark.parametrize(("label", "expected"), [(2.5, 2.5), ("2.5", 2.5), (5, 5.0), (0, 0.0)])
def test_forms_of_a_score(label, expected):
    dataset = to_dataset(one("stsb", ("a", "b"), label), get_task("stsb"), "file", [])
    assert dataset["label"][:] == [expected]
    assert dataset.features["label"].dtype == "float32"


def test_other_columns_are_dropped():
    columns = {"idx": [7], "sentence": ["a"], "label": [1]}
    assert to_dataset(columns, get_task("sst2"), "file", []).column_names == ["sentence", "label"]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1, "label -1 is negative, which marks a hidden label .*test splits of GLUE"),
        ("-1", "label '-1' is negative"),
        (3, r"label 3 is none of entailment, neutral, contradiction \(ids 0 to 2\)"),
        (0.5, "label 0.5 is none of"),
        ("Neutral?", r"label 'Neutral\?' is none of"),
        (NAN, "the label is missing"),
        (None, "the label is missing"),
        (" ", "the label is missing"),
    ],
)
def test_bad_classes(label, message):
    with pytest.raises(ValueError, match=rf"^file, row 3, column 'label': {message}"):
        to_dataset(one("mnli", ("a", "b"), label, row=3), get_task("mnli"), "file", [])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1.0, "label -1.0 is negative, which marks a hidden label"),
        (5.1, r"score 5.1 is outside \[0, 5\]"),
        ("high", "expected a number that float32 can hold, got 'high'"),
        (float("inf"), "expected a number that float32 can hold, got inf"),
        ("nan", "expected a number that float32 can hold, got 'nan'"),
        (1e39, "expected a number that float32 can hold, got 1e\\+39"),
        (NAN, "the label is missing"),
        (None, "the label is missing"),
        ("", "the label is missing"),
    ],
)
def test_bad_scores(label, message):
    with pytest.raises(ValueError, match=rf"^file, row 2, column 'label': {message}"):
        to_dataset(one("stsb", ("a", "b"), label, row=2), get_task("stsb"), "file", [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        (None, "the text is missing"),
        (3, "expected a text, got 3"),
    ],
)
def test_bad_texts(text, message):
    with pytest.raises(ValueError, match=rf"^file, row 4, column 'sentence': {message}"):
        to_dataset(one("sst2", (text,), 0, row=4), get_task("sst2"), "file", [])


def test_official_pairs_with_one_blank_text_are_kept_and_noted():
    notes = []
    dataset = to_dataset(one("qqp", ("What?", ""), 0, row=2), get_task("qqp"), "file", notes)
    assert dataset["question2"][:] == ["fine", ""]
    assert notes == ["file: 1 pair(s) with one empty text are kept, the first in row 2"]
    with pytest.raises(ValueError, match="row 2, column 'question1': the text is empty"):
        to_dataset(one("qqp", ("", " "), 0, row=2), get_task("qqp"), "file", [])


def test_own_pairs_with_one_blank_text_are_refused():
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", ""], "label": ["x", "y"]}
    with pytest.raises(ValueError, match="row 2, column 'sentence2': the text is empty"):
        to_dataset(columns, infer_task(columns, "file"), "file", [])


def test_own_classes_that_look_like_ids_are_never_taken_for_ids():
    task = infer_task({"text": ["a", "b"], "label": [1, 2]}, "file")
    assert to_dataset({"text": ["a"], "label": [1]}, task, "file", [])["label"][:] == [0]
    with pytest.raises(ValueError, match=r"row 1, column 'label': label 0 is none of 1, 2$"):
        to_dataset({"text": ["a"], "label": [0]}, task, "file", [])


def test_missing_column_and_no_rows():
    with pytest.raises(ValueError, match=r"file: no column 'sentence'; the columns are \['text', 'label'\]"):
        to_dataset({"text": ["a"], "label": [0]}, get_task("sst2"), "file", [])
    with pytest.raises(ValueError, match="file: no column 'label'"):
        to_dataset({"sentence": ["a"]}, get_task("sst2"), "file", [])
    with pytest.raises(ValueError, match="file: no rows"):
        to_dataset({"sentence": [], "label": []}, get_task("sst2"), "file", [])


def test_names_of_the_tsv_release():
    mnli = {"sentence1": ["p"], "sentence2": ["h"], "gold_label": ["neutral"], "genre": ["x"]}
    assert hub_columns(mnli, get_task("mnli")) == {
        "genre": ["x"],
        "premise": ["p"],
        "hypothesis": ["h"],
        "label": ["neutral"],
    }
    mrpc = {"Quality": ["1"], "#1 ID": ["7"], "#1 String": ["a"], "#2 String": ["b"]}
    assert hub_columns(mrpc, get_task("mrpc")) == {
        "#1 ID": ["7"],
        "sentence1": ["a"],
        "sentence2": ["b"],
        "label": ["1"],
    }
    assert hub_columns({"is_duplicate": ["1"]}, get_task("qqp")) == {"label": ["1"]}
    assert hub_columns({"score": ["1.5"]}, get_task("stsb")) == {"label": ["1.5"]}
    assert hub_columns({"score": [1]}, get_task("sst2")) == {"score": [1]}


def test_cola_has_no_header():
    columns = {"gj04": ["gj04"], "1": ["0"], "": ["*"], "The first sentence.": ["The second."]}
    assert hub_columns(columns, get_task("cola")) == {
        "label": ["1", "0"],
        "sentence": ["The first sentence.", "The second."],
    }
