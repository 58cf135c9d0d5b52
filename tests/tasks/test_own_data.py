"""What a user's own columns are taken for."""

import re

import pytest

from inhibitor_transformers.tasks.own_data import infer_task, notes_on_labels


def columns(labels, **texts):
    texts = texts or {"text": "t"}
    return {**{name: [f"{text} {i}" for i in range(len(labels))] for name, text in texts.items()}, "label": labels}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["pos", "neg", "pos", "neg"], ("neg", "pos")),
        ([1, 0, 1, 0], ("0", "1")),
        (["10", "9", "10", "9"], ("9", "10")),
        ([3, 1, 1, 3, 5, 5], ("1", "3", "5")),
        ([True, False, True, False], ("False", "True")),
        ([1, "b", "b", 1], ("1", "b")),
        ([0.5, 1.0, 2.5, 1.0], ()),
        ([1.0, 0.0, 1.0, 0.0], ()),
        (["0.5", "1", "-2.5"], ()),
    ],
)
def test_label_names(labels, names):
    task = infer_task(columns(labels), "file")
    assert task.label_names == names
    assert task.metrics == (("accuracy", "macro_f1") if names else ("pearson", "spearman"))
    assert (task.name, task.hub_id, task.num_labels) == ("custom", None, len(names) or 1)


@pytest.mark.parametrize("names", [("text",), ("sentence",), ("sentence1", "sentence2"), ("text1", "text2")])
def test_text_columns_by_name(names):
    assert infer_task(columns([0, 1], **dict.fromkeys(names, "t")), "file").text_columns == names


def test_given_columns_win_over_names():
    table = columns([0, 1], review="t", text="t")
    table["class"] = ["a", "b"]
    task = infer_task(table, "file", text_columns=["review"], label_column="class")
    assert (task.text_columns, task.label_column, task.label_names) == (("review",), "class", ("a", "b"))


def test_labels_is_a_name_too():
    assert infer_task({"text": ["a", "b"], "labels": [0, 1]}, "file").label_column == "labels"


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"review": ["a"], "label": [0]}, {}, r"no text column \(sentence1\+sentence2 or .*\['review', 'label'\]"),
        (columns([0, 1], text="t", sentence="t"), {}, r"more than one text column \(text or sentence\)"),
        ({"text": ["a"], "class": [0]}, {}, r"no label column \(label or labels\)"),
        ({"text": ["a"], "label": [0], "labels": [1]}, {}, "more than one label column"),
        (columns([0, 1]), {"text_columns": ["review"]}, "no column 'review'"),
        (columns([0, 1]), {"label_column": "class"}, "no column 'class'"),
        (columns([0, 1]), {"text_columns": ["label"]}, "text and label columns must differ"),
        (columns([0, 1]), {"text_columns": ["text", "text"]}, "text and label columns must differ"),
        (columns([0, 1], a="t", b="t", c="t"), {"text_columns": ["a", "b", "c"]}, "one or two text columns"),
        (columns([0, 0]), {}, "column 'label': every row has the label '0'"),
        (columns([0, -1]), {}, "negative labels mark hidden ones"),
        (columns([0, None, 1]), {}, "column 'label', row 2: the label is missing"),
        (columns([0.5, float("nan")]), {}, "row 2: the label is missing"),
        (columns(["a", ""]), {}, "row 2: the label is missing"),
        (columns(["01", "1", "2", "01"]), {}, "01 and 1 are one number, written in two ways"),
        (columns(["a", b"b"]), {}, r"row 2: a label is a name or a number, got b'b'"),
        (columns([["a"], ["b"]]), {}, r"row 1: a label is a name or a number, got \['a'\]"),
        (columns([]), {}, "no rows"),
        (columns(["a", "b", "c", "a"]), {}, "3 different labels in 4 rows; is this the label column"),
    ],
)
def test_what_makes_no_sense_is_refused(table, options, message):
    with pytest.raises(ValueError, match=rf"(file.*)?{message}"):
        infer_task(table, "file", **options)


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([1, 5, 3, 1, 3, 5], "label holds whole numbers, which are taken for classes, not for scores; .* point (1.0)"),
        (["1", "2", "1", "2"], "label holds whole numbers, which are taken for classes"),
        ([1.0, 0.0, 1.0, 0.0], "label holds whole scores; if they are classes, write them without a decimal point"),
        (["1", "?", "1", "2", "2", "?"], "label mixes numbers and names, such as '?' in row 2; each is a class"),
        (
            ["Ham", "spam", "ham"] * 2,
            "label has labels that differ in case alone (Ham, ham); each is a class",
        ),
        ([0, 1, 0, 1], None),
        (["a", "b", "a", "b"], None),
        ([True, False, True, False], None),
        ([0.5, 1, 1.5], None),
    ],
)
def test_what_may_have_been_meant_otherwise_is_said(labels, note):
    table = columns(labels)
    found = notes_on_labels(infer_task(table, "file"), labels)
    assert len(found) == (note is not None)
    assert all(re.match(f"custom: {re.escape(note).replace(re.escape('.*'), '.*')}", line) for line in found)
