"""Where a task's files are looked for."""

import pytest

from inhibitor_transformers.tasks.folders import split_files, task_folder
from inhibitor_transformers.tasks.registry import get_task


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("place", ["glue/sst2", "sst2", "glue/SST-2", "SST-2", "."])
def test_places_of_a_glue_task(tmp_path, place):
    touch(tmp_path / place / "train.tsv")
    assert task_folder(get_task("sst2"), tmp_path).samefile(tmp_path / place)


@pytest.mark.parametrize("place", ["imdb", "imdb/plain_text", "plain_text", "."])
def test_places_of_imdb(tmp_path, place):
    touch(tmp_path / place / "train.parquet")
    assert task_folder(get_task("imdb"), tmp_path).samefile(tmp_path / place)


def test_the_group_folder_comes_first(tmp_path):
    touch(tmp_path / "glue/rte/train.csv", tmp_path / "rte/train.csv", tmp_path / "train.csv")
    assert task_folder(get_task("rte"), tmp_path) == tmp_path / "glue/rte"


def test_the_folder_of_another_task_is_refused(tmp_path):
    touch(tmp_path / "cola/train.parquet")
    with pytest.raises(ValueError, match="is the folder of cola, but the task asked for is sst2"):
        task_folder(get_task("sst2"), tmp_path / "cola")


def test_no_train_file_says_where_was_looked(tmp_path):
    touch(tmp_path / "sst2/validation.parquet")
    with pytest.raises(FileNotFoundError, match=r"sst2: no train file .* in any of .*glue.sst2, .*SST-2"):
        task_folder(get_task("sst2"), tmp_path)


def test_missing_folder_and_file_for_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        task_folder(get_task("sst2"), tmp_path / "absent")
    touch(tmp_path / "train.csv")
    with pytest.raises(ValueError, match=r"sst2 needs a folder .* use the task 'custom'"):
        task_folder(get_task("sst2"), tmp_path / "train.csv")


def test_validation_has_other_names(tmp_path):
    touch(tmp_path / "train.csv", tmp_path / "dev.tsv", tmp_path / "dev_matched.tsv")
    assert split_files(tmp_path, "train") == [tmp_path / "train.csv"]
    assert split_files(tmp_path, "validation") == [tmp_path / "dev.tsv"]
    assert split_files(tmp_path, "validation_matched") == [tmp_path / "dev_matched.tsv"]
    assert split_files(tmp_path, "validation_mismatched") == []


def test_shards_in_order_and_none_missing(tmp_path):
    shards = [tmp_path / f"train-0000{i}-of-00002.parquet" for i in range(2)]
    touch(*reversed(shards))
    assert split_files(tmp_path, "train") == shards
    shards[0].unlink()
    with pytest.raises(ValueError, match=r"shards are missing or mixed: \['train-00001-of-00002.parquet'\]"):
        split_files(tmp_path, "train")


@pytest.mark.parametrize(
    ("split", "files", "named"),
    [
        ("train", ["train.csv", "train.parquet"], "train.parquet and train.csv"),
        ("validation", ["validation.csv", "dev.csv"], "validation.csv and dev.csv"),
        ("test", ["test.jsonl", "test-00000-of-00001.jsonl"], "test.jsonl and test-00000-of-00001.jsonl"),
    ],
)
def test_two_files_for_a_split(tmp_path, split, files, named):
    """One of them was read, the other not, without a word."""
    touch(*(tmp_path / file for file in files))
    with pytest.raises(ValueError, match=f"{named} could all be its {split} split; keep one of them"):
        split_files(tmp_path, split)
