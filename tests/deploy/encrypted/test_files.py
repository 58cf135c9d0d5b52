"""Files: for their owner only, whole or not there, and known by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import stat

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.files import read_private, sha256, write_folder, write_private

posix = pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")


@pytest.fixture(autouse=True)
def _everybody_may_read():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_a_folder_for_its_owner(tmp_path):
    folder = write_folder(tmp_path / "f", {"a.json": {"x": 1}}, {"b.npz": {"y": np.ones(2)}}, {"c.key": b"z"})
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir()} == dict.fromkeys(("a.json", "b.npz", "c.key"), 0o600)


def test_a_folder_is_not_replaced(tmp_path):
    folder = write_folder(tmp_path / "f", {}, {}, {"c.key": b"z"})
    with pytest.raises(ValueError, match="exists: name another folder"):
        write_folder(folder, {}, {})
    assert (folder / "c.key").read_bytes() == b"z"


def test_a_folder_that_cannot_be_written_whole_is_not_there(tmp_path):
    with pytest.raises(TypeError):
        write_folder(tmp_path / "f", {"a.json": {"x": 1}, "b.json": {"x": object()}}, {})
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_file_for_its_owner(tmp_path):
    (tmp_path / "a").write_bytes(b"for everybody")
    assert mode(write_private(tmp_path / "a", b"one")) == 0o600


def test_a_file_is_replaced_whole(tmp_path):
    file = write_private(tmp_path / "a", b"one")
    with pytest.raises(TypeError):
        write_private(file, "no bytes")
    assert file.read_bytes() == b"one"
    write_private(file, b"two")
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"two", [file])


def test_only_the_content_that_is_meant_is_read(tmp_path):
    file = write_private(tmp_path / "a", b"one")
    assert sha256(b"one") == hashlib.sha256(b"one").hexdigest()
    assert read_private(file, sha256(b"one")) == b"one"
    with pytest.raises(ValueError, match="a is damaged, or belongs to another folder"):
        read_private(file, sha256(b"two"))
    with pytest.raises(ValueError, match="b is absent"):
        read_private(tmp_path / "b", sha256(b"one"))
