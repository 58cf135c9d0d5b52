"""Where rows come from, what their labels are, and which of them are held out."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from inhibitor_transformers.tasks import split_held_out
from inhibitor_transformers.tasks.modalities.source import class_ids, encoded_bytes, indices_of, read_split
from tests.tasks.modalities.tiny import sentences, write_parquet


def test_folder_file_and_shards_give_the_same(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole" / "test.parquet", text=["a", "b"], label=[0, 1])
    for i, (text, label) in enumerate((("a", 0), ("b", 1))):
        write_parquet(tmp_path / "shards" / f"test-0000{i}-of-00002.parquet", text=[text], label=[label])
    expected = (["a", "b"], [0, 1])
    for source in (whole, tmp_path / "whole", tmp_path / "shards"):
        assert read_split(source, "test", ["text"]) == expected


def test_a_source_without_labels(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "train.parquet", img=["x"])
    assert read_split(file, "train", ["image", "img"]) == (["x"], None)


def test_class_names_of_datasets_come_back_as_names(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "dog"])})
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features).to_parquet(tmp_path / "train.parquet")
    assert read_split(tmp_path, "train", ["text"])[1] == ["dog", "cat"]


@pytest.mark.parametrize(
    ("source", "split", "error", "message"),
    [
        ("data", "validation", FileNotFoundError, "no file for the split 'validation'"),
        ("data", "dev", ValueError, "unknown split 'dev'; known: train, validation"),
        ("data/train.parquet", "train", ValueError, "none of the columns image; it has text"),
        ("data/empty.parquet", "train", ValueError, "its train split has no rows"),
        ("absent", "train", FileNotFoundError, "neither an existing file or folder nor a Hub id"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, source: str, split: str, error: type, message: str) -> None:
    write_parquet(tmp_path / "data" / "train.parquet", text=["a"])
    write_parquet(tmp_path / "data" / "empty.parquet", image=[])
    with pytest.raises(error, match=message):
        read_split(tmp_path / source, split, ["image"])


def test_the_hub_out_of_reach() -> None:
    with pytest.raises(ConnectionError, match="'nobody/nothing' is no existing path, and loading it from the Hub"):
        read_split("nobody/nothing", "train", ["image"])


def test_labels_are_ids_or_names_of_the_model() -> None:
    assert class_ids(None, "data", None) is None
    assert class_ids([1, 0], "data", None) == [1, 0]
    assert class_ids(["dog", "cat"], "data", {"cat": 0, "dog": 1}) == [1, 0]


@pytest.mark.parametrize("label", ["fox", None, -1, 0.5])
def test_other_labels_are_refused(label: object) -> None:
    with pytest.raises(ValueError, match=r"data, row 2: .* is neither a class id nor one of the model's classes"):
        class_ids(["cat", label], "data", {"cat": 0})


def test_rows_without_a_file_are_named() -> None:
    assert encoded_bytes([{"bytes": b"x", "path": None}, b"y"], "data") == [b"x", b"y"]
    for row in ({"bytes": None, "path": "there.png"}, "text", {"bytes": b""}):
        with pytest.raises(ValueError, match=r"data, row 2: expected an encoded file \(bytes\), got"):
            encoded_bytes([b"x", row], "data")


def test_texts_are_held_out_as_elsewhere() -> None:
    texts = sentences(300)
    train, held_out = split_held_out(texts)
    assert [texts[i] for i in indices_of("train", texts, "data")] == train
    assert [texts[i] for i in indices_of("held_out", texts, "data")] == held_out
    assert indices_of("all", texts, "data") == list(range(300))


def test_files_are_held_out_by_their_content() -> None:
    contents = [bytes([i, j]) for i in range(20) for j in range(20)]
    held_out = {contents[i] for i in indices_of("held_out", contents, "data")}
    assert 20 < len(held_out) < 60
    assert {contents[::-1][i] for i in indices_of("held_out", contents[::-1], "data")} == held_out
    assert not held_out & {contents[i] for i in indices_of("train", contents, "data")}


def test_parts_that_are_none() -> None:
    with pytest.raises(ValueError, match="a part is one of all, train, held_out, got 'test'"):
        indices_of("test", ["a"], "data")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data: 0 rows are too few for a part 'held_out'"):
        indices_of("held_out", [], "data")
