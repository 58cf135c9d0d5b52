"""Pictures from files, folders and data sets."""

from __future__ import annotations

import pytest

from inhibitor_transformers.tasks.modalities.pictures import read_pictures
from tests.tasks.modalities.tiny import as_files, write_parquet

CONTENTS = [b"first", b"second", b"third"]


def test_files_and_folders_in_order(tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, content in zip(("b.PNG", "a.jpg", "notes.txt"), CONTENTS, strict=True):
        (folder / name).write_bytes(content)
    (tmp_path / "one.webp").write_bytes(b"one")
    found = read_pictures([folder, str(tmp_path / "one.webp")], 9)
    assert found == [("a.jpg", b"second"), ("b.PNG", b"first"), ("one.webp", b"one")]
    assert read_pictures([folder, tmp_path / "one.webp"], 2) == found[:2]


@pytest.mark.parametrize("column", ["image", "img"])
def test_a_data_set(tmp_path, column) -> None:
    file = write_parquet(tmp_path / "data" / "test.parquet", **{column: as_files(CONTENTS), "label": [0, 1, 2]})
    write_parquet(tmp_path / "data" / "train.parquet", **{column: as_files([b"trained on"])})
    assert read_pictures([tmp_path / "data"], 2) == [("test, row 1", b"first"), ("test, row 2", b"second")]
    assert [picture.content for picture in read_pictures([file], 9)] == CONTENTS


def test_nothing_to_show(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(FileNotFoundError, match=r"no picture \(.png, .*and no data set in this folder"):
        read_pictures([tmp_path], 4)
    with pytest.raises(FileNotFoundError, match="no such file or folder of pictures"):
        read_pictures([tmp_path / "gone"], 4)
    with pytest.raises(ValueError, match="none of the columns image, img"):
        read_pictures([write_parquet(tmp_path / "test.parquet", text=["a"])], 4)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        read_pictures([tmp_path], 0)
