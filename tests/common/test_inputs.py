"""No output is, contains or lies inside what is read, however the paths are spelt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.common.inputs import require_apart


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with models/a/model.safetensors and data.csv."""
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "models" / "a" / "model.safetensors").write_text("weights")
    (tmp_path / "data.csv").write_text("text,label")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(output: str | Path, source: str | Path, message: str) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(ConfigError, match=message):
        require_apart(output, {"teacher": "bert-base-uncased", "data": source})
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("output", "relation"),
    [
        ("models/a", "is"),
        ("models/a/", "is"),
        ("./models/../models/a", "is"),
        ("models", "contains"),
        (".", "contains"),
        ("..", "contains"),
        ("models/a/new", "lies inside"),
        ("models/a/new/deeper", "lies inside"),
        ("models/b/../a/new", "lies inside"),
    ],
)
def test_relative_parts(here: Path, output: str, relation: str) -> None:
    for spelt in (output, here / output):
        for source in ("models/a", here / "models" / "a"):
            refused(spelt, source, rf"^the output .* {relation} the data .*a; choose another output$")


def test_files_are_inputs_too(here: Path) -> None:
    refused("data.csv", "data.csv", "is the data")
    refused(".", "data.csv", "contains the data")
    refused("models/a", "models/a/model.safetensors", "contains the data")


def test_links(here: Path) -> None:
    (here / "link").symlink_to("models")
    refused("link/a", "models/a", "is")
    refused("models/a", "link/a", "is")
    refused("link/a/new", "models/a", "lies inside")
    refused("link", "models/a", "contains")
    os.link(here / "data.csv", here / "twin.csv")
    refused("twin.csv", "data.csv", "is")


def test_a_link_within_the_output_that_leads_out_of_it(here: Path) -> None:
    """The data would survive; the path by which it was named would not."""
    (here / "out").mkdir()
    (here / "out" / "link").symlink_to(here / "data.csv")
    refused("out", "out/link", "contains")


def test_weights_that_are_linked_into_the_output(here: Path) -> None:
    """As in the Hub's cache: the model's folder is elsewhere, its weights are not."""
    (here / "snapshot").mkdir()
    (here / "snapshot" / "model.safetensors").symlink_to(here / "models" / "a" / "model.safetensors")
    refused("models/a", "snapshot", r"contains what snapshot/model.safetensors points to, a part of the data snapshot")


def test_a_link_that_leads_nowhere_is_still_an_input(here: Path) -> None:
    (here / "dangling").symlink_to("gone")
    refused("gone", "dangling", "is")


def test_the_home_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    refused("~/models/a", "models/a", "is")
    refused("models/a", "~/models/a", "is")


def test_each_of_several(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"is the text data\.csv"):
        require_apart("data.csv", {"text": ["this-machine", "data.csv"]})


def test_what_is_apart(here: Path) -> None:
    inputs = {"model": "models/a", "data": "data.csv", "teacher": None, "text": ["this-machine", None]}
    for output in ("models/b", "models/ab", "models/a.partial", "out/models/a", "../elsewhere", "data.csv.out"):
        require_apart(output, inputs)
    require_apart("bert-base-uncased", {"teacher": "bert-base-uncased"})  # a Hub id, nothing that is there


def test_a_folder_that_is_yet_to_be_made(here: Path) -> None:
    refused("out", Path("out/cache"), "contains the data")
