"""A folder is there whole or not at all, and nothing is replaced unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhibitor_transformers.measure.whole_folder import require_free, whole_folder


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(output: Path, text: str, *, overwrite: bool = False) -> None:
    with whole_folder(output, overwrite=overwrite) as folder:
        (folder / "file").write_text(text)
        assert not (output / "file").exists() or (output / "file").read_text() != text


def test_it_appears_when_the_block_ends(tmp_path: Path) -> None:
    write(tmp_path / "a" / "out", "new")
    assert contents(tmp_path) == {"a/out/file": "new"}


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "new")
    assert contents(tmp_path) == {"out/file": "new"}


def test_overwriting_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "more").write_text("old")
    write(tmp_path / "out", "new", overwrite=True)
    assert contents(tmp_path) == {"out/file": "new"}


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, failure: type[BaseException]) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "out", overwrite=True) as folder:
            (folder / "file").write_text("half")
            raise failure

    write(tmp_path / "out", "old")
    with pytest.raises(failure):
        fail()
    assert contents(tmp_path) == {"out/file": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_exists_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(ValueError, match=r"out exists; add --overwrite to replace it, or choose another folder"):
        require_free(tmp_path / "out", overwrite=False)
    with pytest.raises(ValueError, match="exists"):
        write(tmp_path / "out", "new")
    with pytest.raises(ValueError, match="file is a file; choose another output folder"):
        require_free(tmp_path / "out" / "file", overwrite=True)
    assert contents(tmp_path) == {"out/file": "old"}


def test_what_came_into_being_meanwhile_stays(tmp_path: Path) -> None:
    def write_while_another_does() -> None:
        with whole_folder(tmp_path / "out", overwrite=False):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "file").write_text("of another")

    with pytest.raises(ValueError, match="exists"):
        write_while_another_does()
    assert contents(tmp_path) == {"out/file": "of another"}
