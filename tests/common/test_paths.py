"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.common.paths import expand_user, require_writable, resolve_links, user_cache


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is the home folder too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_home_folder(here: Path) -> None:
    assert expand_user("~/a") == expand_user(Path("~/a")) == here / "a"
    assert expand_user("a/~") == Path("a/~")
    assert expand_user("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")  # Path.expanduser: a RuntimeError


@pytest.mark.parametrize("name", ["loop", "loop/below", "one", "one/below/deeper", "~/loop"])
def test_a_loop_of_links(here: Path, name: str) -> None:
    (here / "loop").symlink_to("loop")
    (here / "one").symlink_to("two")
    (here / "two").symlink_to("one")
    for refuse in (resolve_links, require_writable):
        with pytest.raises(ConfigError, match=f"^{name} is, or goes through, a loop of links"):
            refuse(name)


def test_a_link_that_leads_nowhere(here: Path) -> None:
    (here / "dangling").symlink_to("gone")
    assert resolve_links("dangling") == (here / "gone").resolve()


def test_what_can_be_written(here: Path) -> None:
    (here / "file").touch()
    for name in ("file", "new", "new/deeper/file", here / "new", "~/new"):
        require_writable(name)
    assert os.listdir() == ["file"]


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("circuits") == tmp_path / "inhibitor-transformers" / "circuits"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache("circuits") == tmp_path / "home" / ".cache" / "inhibitor-transformers" / "circuits"
