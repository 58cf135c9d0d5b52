"""Loading whole tasks from folders, from the Hub's layout, from own files; and their encoding."""

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from inhibitor_transformers.tasks import encode, get_task, load_task

SENTENCES = {"sentence": [f'a "quoted, sentence {i}' for i in range(20)], "label": [i % 2 for i in range(20)]}
REVIEWS = {"text": [f"review {i}" for i in range(50)], "label": [int(i >= 25) for i in range(50)]}
NEW_REVIEWS = {"text": [f"new {text}" for text in REVIEWS["text"]], "label": REVIEWS["label"]}
NEW_SENTENCES = {"sentence": ["new", "newer", "newest", "renewed"], "label": [0, 1, 0, 1]}


def write(path, columns):
    """Write columns in the format of the path's suffix, as other programs would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        lines = ["\t".join(map(str, row)) for row in (columns, *(row.values() for row in rows))]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def rows(dataset):
    return sorted(tuple(row.values()) for row in dataset)


def head(columns, count):
    return {name: values[:count] for name, values in columns.items()}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "jsonl", "json"])
def test_every_format_gives_the_same_task(tmp_path, suffix):
    write(tmp_path / f"glue/sst2/train.{suffix}", SENTENCES)
    write(tmp_path / f"glue/sst2/validation.{suffix}", NEW_SENTENCES)
    data = load_task("sst2", tmp_path)
    assert data.task is get_task("sst2")
    assert rows(data.train) == sorted(zip(*SENTENCES.values(), strict=True))
    assert data.evaluation["validation"].to_dict() == NEW_SENTENCES
    assert data.notes == []
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == [f"train.{suffix}", f"validation.{suffix}"]


def test_training_examples_are_shuffled_by_the_seed(tmp_path):
    write(tmp_path / "train.csv", REVIEWS)
    write(tmp_path / "test.csv", REVIEWS)
    first, again, other = (load_task("imdb", tmp_path, seed=seed).train["text"][:] for seed in (0, 0, 1))
    assert first == again != other
    assert first != REVIEWS["text"]


def test_subsets_are_noted(tmp_path):
    write(tmp_path / "train.csv", REVIEWS)
    write(tmp_path / "test.csv", {name: values[1:] for name, values in NEW_REVIEWS.items()})
    data = load_task("imdb", tmp_path, max_train_examples=10, max_eval_examples=5, seed=3)
    assert (len(data.train), len(data.evaluation["test"])) == (10, 5)
    assert data.notes == [
        "imdb: 10 of 50 train examples are used (seed 3)",
        "imdb: 5 of 49 test examples are used (seed 3)",
    ]
    assert load_task("imdb", tmp_path, max_train_examples=50, max_eval_examples=99).notes == []


def test_imdb_without_a_test_split_holds_out_a_stratified_fifth(tmp_path):
    write(tmp_path / "imdb/train.parquet", REVIEWS)
    data = load_task("imdb", tmp_path)
    assert data.notes == [f"imdb: no test split in {tmp_path}; a stratified 20% of train (seed 0) is held out"]
    assert data.task.evaluation_splits == ("held_out",) == tuple(data.evaluation)
    held_out = data.evaluation["held_out"]
    assert np.bincount(held_out["label"][:]).tolist() == [5, 5]
    assert not set(held_out["text"][:]) & set(data.train["text"][:])
    assert len(data.train) == 40


def test_mnli_in_the_tsv_release(tmp_path):
    columns = {"sentence1": ["p 1", "p 2"], "sentence2": ["h 1", "h 2"], "gold_label": ["neutral", "contradiction"]}
    for split in ("train", "dev_matched", "dev_mismatched"):
        write(tmp_path / f"MNLI/{split}.tsv", columns)
    data = load_task("mnli", tmp_path)
    assert list(data.evaluation) == ["validation_matched", "validation_mismatched"]
    assert rows(data.train) == [("p 1", "h 1", 1), ("p 2", "h 2", 2)]
    (tmp_path / "MNLI/dev_mismatched.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"MNLI: no file for the split\(s\) validation_mismatched of mnli"):
        load_task("mnli", tmp_path)


def test_cola_in_the_tsv_release(tmp_path):
    write(tmp_path / "CoLA/train.tsv", {"gj04": ["gj04"], "1": ["0"], "": ["*"], 'Our "friends.': ["Not much of."]})
    write(tmp_path / "CoLA/dev.tsv", {"gj04": ["gj04"], "1": ["1"], "": [""], "Sailors rode.": ["They drank."]})
    data = load_task("cola", tmp_path)
    assert rows(data.train) == [("Not much of.", 0), ('Our "friends.', 1)]
    assert data.evaluation["validation"]["sentence"][:] == ["Sailors rode.", "They drank."]


def test_shards_are_joined_and_errors_name_the_shard(tmp_path):
    for i in range(2):
        write(tmp_path / f"sst2/train-0000{i}-of-00002.parquet", {"sentence": [f"s{i}"], "label": [i]})
    write(tmp_path / "sst2/validation-00000-of-00001.parquet", head(SENTENCES, 2))
    assert rows(load_task("sst2", tmp_path).train) == [("s0", 0), ("s1", 1)]
    write(tmp_path / "sst2/train-00001-of-00002.parquet", {"sentence": ["s1"], "label": [2]})
    with pytest.raises(ValueError, match=r"train-00001-of-00002.parquet, row 1, column 'label': label 2"):
        load_task("sst2", tmp_path)


def test_hidden_labels_are_never_evaluated_on(tmp_path):
    write(tmp_path / "sst2/train.csv", SENTENCES)
    write(tmp_path / "sst2/validation.csv", {"sentence": ["a"], "label": [-1]})
    with pytest.raises(ValueError, match=r"validation.csv, row 1, column 'label': label '-1' is negative.*hidden"):
        load_task("sst2", tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """`datasets.load_dataset` serving what a test puts here under (id, configuration)."""
    served = {}

    def load_dataset(path, name=None, split=None):
        loaded = served[path, name]
        if isinstance(loaded, Exception):
            raise loaded
        return loaded[split] if split else loaded

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return served


def hub_split(columns, names):
    kinds = {name: Value("string") for name in columns} | {"label": ClassLabel(names=names), "idx": Value("int32")}
    return Dataset.from_dict({**columns, "idx": range(len(columns["label"]))}, features=Features(kinds))


def test_hub_layout(hub):
    names = ["negative", "positive"]
    test = {"sentence": ["hidden"], "label": [-1]}
    splits = {"train": SENTENCES, "validation": NEW_SENTENCES, "test": test}
    hub["nyu-mll/glue", "sst2"] = DatasetDict({split: hub_split(rows, names) for split, rows in splits.items()})
    data = load_task("sst2")
    assert rows(data.train) == sorted(zip(*SENTENCES.values(), strict=True))
    assert {split: rows.to_dict() for split, rows in data.evaluation.items()} == {"validation": NEW_SENTENCES}
    assert data.notes == []


def test_hub_class_names_in_another_order_are_not_taken_for_ids(hub):
    split = hub_split({"sentence": ["good"], "label": [0]}, ["positive", "negative"])
    hub["nyu-mll/glue", "sst2"] = DatasetDict(train=split, validation=split)
    assert load_task("sst2").train["label"][:] == [1]


def test_hub_imdb_uses_the_official_test_split(hub):
    splits = {"train": REVIEWS, "test": head(REVIEWS, 6), "unsupervised": {"text": ["x"], "label": [-1]}}
    built = {name: hub_split(columns, ["neg", "pos"]) for name, columns in splits.items()}
    hub["stanfordnlp/imdb", "plain_text"] = DatasetDict(built)
    data = load_task("imdb")
    assert (len(data.train), {split: len(rows) for split, rows in data.evaluation.items()}) == (50, {"test": 6})


def test_hub_errors_say_what_to_do(hub):
    hub["nyu-mll/glue", "rte"] = ConnectionError("Couldn't reach the Hub\nlong story")
    with pytest.raises(
        ConnectionError,
        match=r"^rte: cannot load nyu-mll/glue \(rte\) from the Hub: Couldn't reach the "
        r"Hub; give a local folder with the data instead$",
    ):
        load_task("rte")
    hub["nyu-mll/glue", "sst2"] = DatasetDict(train=hub_split(SENTENCES, ["negative", "positive"]))
    with pytest.raises(ValueError, match=r"nyu-mll/glue \(sst2\): no split 'validation'; it has \['train'\]"):
        load_task("sst2")


OWN = {"text": [f"text {i}" for i in range(20)], "label": ["spam", "ham"] * 10}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "jsonl", "json"])
def test_own_file_holds_out_a_fifth(tmp_path, suffix):
    path = write(tmp_path / f"mails.{suffix}", OWN)
    data = load_task("custom", path, seed=5)
    assert (len(data.train), len(data.evaluation["held_out"])) == (16, 4)
    assert data.task.label_names == ("ham", "spam")
    assert data.task.evaluation_splits == ("held_out",)
    assert sorted(data.evaluation["held_out"]["label"][:]) == [0, 0, 1, 1]
    assert data.notes == [
        "custom: text from text, classes ham, spam from label",
        f"custom: no validation split in {path}; a stratified 20% of train (seed 5) is held out",
    ]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_own_folder_with_its_splits(tmp_path):
    write(tmp_path / "train.csv", OWN)
    write(tmp_path / "dev.jsonl", {"text": ["new", "text 3"], "label": ["ham", "ham"]})
    write(tmp_path / "test.csv", {"text": ["newer"], "label": ["spam"]})
    data = load_task("custom", tmp_path)
    assert data.task.evaluation_splits == ("validation", "test") == tuple(data.evaluation)
    assert data.evaluation["validation"].to_dict() == {"text": ["new", "text 3"], "label": [0, 0]}
    assert data.notes[1:] == [
        "custom: 1 of 2 validation examples are also training examples",
        "custom: every one of the 2 validation examples has the label 'ham'",
        "custom: every one of the 1 test examples has the label 'spam'",
    ]


@pytest.mark.parametrize("name", ["custom", "sst2"])
def test_validation_that_is_the_training_examples_is_said(tmp_path, name):
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.csv", SENTENCES)
    shared = f"{name}: 20 of 20 validation examples are also training examples: scores there measure memorization"
    assert load_task(name, tmp_path).notes[-1] == shared


def test_labels_that_are_all_alike_are_said(tmp_path):
    """Of known tasks too, and of what is left after a subset was drawn."""
    write(tmp_path / "train.csv", {**SENTENCES, "label": [1] * 20})
    write(tmp_path / "validation.csv", NEW_SENTENCES)
    notes = load_task("sst2", tmp_path, max_eval_examples=1).notes
    assert notes[-2] == "sst2: every one of the 20 training examples has the label 'positive'"
    assert notes[-1].startswith("sst2: every one of the 1 validation examples has the label")


def test_a_class_that_no_training_example_has_is_said(tmp_path):
    columns = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [0, 2]}
    for split in ("train", "validation_matched", "validation_mismatched"):
        write(tmp_path / f"{split}.csv", {**columns, "premise": [f"{split} a", f"{split} b"]})
    assert load_task("mnli", tmp_path).notes == ["mnli: no training example has the label neutral"]


def test_whole_numbers_of_one_s_own_are_said_to_be_classes(tmp_path):
    path = write(tmp_path / "stars.csv", {"text": OWN["text"], "label": [1, 2, 3, 4, 5] * 4})
    notes = load_task("custom", path).notes
    assert notes[1].startswith("custom: label holds whole numbers, which are taken for classes, not for scores")


def test_own_test_file_without_labels_is_left_out_and_noted(tmp_path):
    write(tmp_path / "train.csv", OWN)
    write(tmp_path / "test.csv", {"text": ["newer"]})
    data = load_task("custom", tmp_path)
    assert list(data.evaluation) == ["held_out"]
    assert data.notes[1] == f"custom: {tmp_path / 'test.csv'} has no column 'label' and is left out"


def test_own_pairs_with_scores_and_named_columns(tmp_path):
    path = write(
        tmp_path / "a.csv", {"q": ["x"] * 10, "a": [f"y{i}" for i in range(10)], "fit": [i / 4 for i in range(10)]}
    )
    data = load_task("custom", path, text_columns=("q", "a"), label_column="fit")
    assert (data.task.problem_type, data.task.is_pair) == ("regression", True)
    assert data.train.features["fit"].dtype == "float32"
    assert data.notes[0] == "custom: text from q+a, regression (decimal labels) from fit"
    assert "a random 20% of train" in data.notes[1]


def test_own_evaluation_with_a_class_that_train_lacks(tmp_path):
    write(tmp_path / "train.csv", OWN)
    write(tmp_path / "validation.csv", {"text": ["new"], "label": ["eggs"]})
    with pytest.raises(ValueError, match=r"validation\.csv, row 1, column 'label': label 'eggs' is none of ham, spam"):
        load_task("custom", tmp_path)


def test_own_data_errors(tmp_path):
    with pytest.raises(ValueError, match="the task 'custom' needs your data"):
        load_task("custom")
    with pytest.raises(FileNotFoundError, match="absent: no such file or folder"):
        load_task("custom", tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="no train file"):
        load_task("custom", tmp_path)
    with pytest.raises(ValueError, match=r"can be named for the task 'custom' only, not for 'sst2'"):
        load_task("sst2", tmp_path, text_columns=["text"])
    with pytest.raises(ValueError, match="unknown task"):
        load_task("nonsense", tmp_path)


@pytest.mark.parametrize("limit", ["max_train_examples", "max_eval_examples"])
def test_limits_below_one(tmp_path, limit):
    with pytest.raises(ValueError, match=f"{limit} must be at least 1, got 0"):
        load_task("sst2", tmp_path, **{limit: 0})


def tokenizer(segments):
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"])}
    built = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    built.pre_tokenizer = Whitespace()
    built.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if segments else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=built, pad_token="[PAD]", model_input_names=names)


PAIRS = Dataset.from_dict({"sentence1": ["a b", "c"], "sentence2": ["c", "a b c"], "label": [1, 0]})


def test_encoded_pairs_keep_their_segments():
    encoded = encode(PAIRS, tokenizer(segments=True), get_task("rte"), 16)
    assert set(encoded.column_names) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert encoded["input_ids"][:] == [[2, 4, 5, 3, 6, 3], [2, 6, 3, 4, 5, 6, 3]]
    assert encoded["token_type_ids"][:] == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 1]]
    assert encoded["attention_mask"][:] == [[1] * 6, [1] * 7]
    assert encoded["labels"][:] == [1, 0]


def test_encoding_is_silent_in_a_library(capsys, monkeypatch):
    """The bar of `datasets` went into every log; and it stays on for what else the user does with `datasets`."""
    monkeypatch.delenv("HF_DATASETS_DISABLE_PROGRESS_BARS", raising=False)
    disabled = are_progress_bars_disabled()
    enable_progress_bars()
    try:
        encode(PAIRS, tokenizer(segments=True), get_task("rte"), 16)
        assert not are_progress_bars_disabled()
        assert capsys.readouterr().err == ""
    finally:
        if disabled:
            disable_progress_bars()


def test_a_tokenizer_without_segments_gives_none():
    encoded = encode(PAIRS, tokenizer(segments=False), get_task("rte"), 16)
    assert set(encoded.column_names) == {"input_ids", "attention_mask", "labels"}


def test_encoding_cuts_the_longer_text():
    encoded = encode(PAIRS, tokenizer(segments=True), get_task("rte"), 5)
    assert encoded["input_ids"][:] == [[2, 4, 3, 6, 3], [2, 6, 3, 4, 3]]


def test_encoded_single_texts_and_scores():
    singles = Dataset.from_dict({"sentence": ["a b", "c d"], "label": [0, 1], "idx": [7, 8]})
    encoded = encode(singles, tokenizer(segments=False), get_task("sst2"), 16)
    assert encoded.to_dict() == {
        "labels": [0, 1],
        "input_ids": [[2, 4, 5, 3], [2, 6, 1, 3]],
        "attention_mask": [[1] * 4, [1] * 4],
    }
    scores = Dataset.from_dict({"sentence1": ["a"], "sentence2": ["b"], "label": [2.5]}).cast_column(
        "label", Value("float32")
    )
    encoded = encode(scores, tokenizer(segments=True), get_task("stsb"), 16)
    assert encoded["labels"][:] == [2.5]
    assert encoded.features["labels"].dtype == "float32"


def test_encoding_errors():
    with pytest.raises(ValueError, match=r"sst2: no column\(s\) \['sentence'\] in the dataset; it has"):
        encode(PAIRS, tokenizer(segments=True), get_task("sst2"), 16)
    with pytest.raises(ValueError, match="max_length must exceed the 3 special tokens, got 3"):
        encode(PAIRS, tokenizer(segments=True), get_task("rte"), 3)


@pytest.mark.parametrize(
    ("name", "train", "validation"),
    [
        ("sst2", 67_349, 872),
        ("cola", 8_551, 1_043),
        ("mrpc", 3_668, 408),
        ("stsb", 5_749, 1_500),
        ("rte", 2_490, 277),
        ("wnli", 635, 71),
    ],
)
def test_real_glue(shared_data: Path, name, train, validation):
    data = load_task(name, shared_data)
    assert (len(data.train), len(data.evaluation["validation"])) == (train, validation)
    assert all("examples are also training examples" in note for note in data.notes)


def test_real_imdb(shared_data: Path):
    data = load_task("imdb", shared_data, seed=1)
    held_out = data.evaluation["held_out"]
    assert len(data.train) + len(held_out) == 25_000
    assert not set(data.train["text"][:]) & set(held_out["text"][:])
    for split in (data.train, held_out):
        assert abs(np.mean(split["label"][:]) - 0.5) < 0.002
    assert abs(len(held_out) - 5_000) < 20
