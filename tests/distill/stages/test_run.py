"""Stages one after the other: what each is given, what is kept of it, and where an interrupted run goes on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.run_data import TextData
from inhibitor_transformers.distill.stages.base import RunContext
from inhibitor_transformers.distill.stages.run import count_finished, run_stages, saved_student
from tests.distill.tiny import bert_tokenizer, pair

NAMES = ("first", "second", "third")


@dataclass
class Recorder:
    """A stage that does nothing but say where it ran."""

    name: str
    folders: list[Path] = field(default_factory=list)

    def run(self, context: RunContext) -> None:
        self.folders.append(context.folder)


def run(output: Path, **options: Any) -> tuple[list[list[Path]], list[str], Any]:
    """(the folders in which each stage ran, what was said, the student)"""
    student, teacher, layer_map = pair()
    stages, said = [Recorder(name) for name in NAMES], []
    run_stages(
        stages,
        RunContext(
            EncoderPairing(student, teacher, layer_map), TextData([], bert_tokenizer()), output, log=said.append
        ),
        **options,
    )
    return [stage.folders for stage in stages], said, student


def test_all_run_in_folders_of_their_own(tmp_path):
    folders, said, _ = run(tmp_path)
    assert folders == [[tmp_path / "stages" / f"{i}-{name}"] for i, name in enumerate(NAMES, 1)]
    assert said == [f"stage {i} of 3: {name}" for i, name in enumerate(NAMES, 1)]
    assert count_finished(tmp_path, NAMES, said.append) == 3


def test_finished_ones_are_not_run_again(tmp_path):
    ended = []
    folders, said, student = run(tmp_path, finished=1, on_stage=lambda *args: ended.append(args))
    assert folders == [[], [tmp_path / "stages" / "2-second"], [tmp_path / "stages" / "3-third"]]
    assert said == ["stage 2 of 3: second", "stage 3 of 3: third"]
    assert ended == [("second", student), ("third", student)]


@pytest.fixture
def finished(tmp_path) -> Path:
    run(tmp_path)
    return tmp_path


def test_it_goes_on_after_the_last_that_is_there(finished):
    said: list[str] = []
    shutil.rmtree(saved_student(finished, 2, "third"))
    assert count_finished(finished, NAMES, said.append) == 2
    shutil.rmtree(saved_student(finished, 0, "first"))  # which nothing reads any more
    assert count_finished(finished, NAMES, said.append) == 2
    shutil.rmtree(saved_student(finished, 1, "second"))
    assert count_finished(finished, NAMES, said.append) == 0
    assert said == []


def test_a_damaged_student_is_named_and_passed_over(finished):
    said: list[str] = []
    student = saved_student(finished, 2, "third")
    (student / "config.json").unlink()
    assert count_finished(finished, NAMES, said.append) == 2
    assert said == [f"{student} is damaged (config.json is missing): this stage is run again"]


def test_stages_of_another_name_do_not_count(finished):
    assert count_finished(finished, ("first", "other"), print) == 1
