"""The quickstart from the first check to the report, with a tiny teacher."""

from __future__ import annotations

import sys

import pytest
from transformers import AutoModel

from inhibitor_transformers.models import InhibiDistilBertModel
from inhibitor_transformers.quickstart import run_quickstart
from inhibitor_transformers.quickstart.run import quickstart_config


def test_student_and_report_are_in_the_folder(quickstart):
    assert type(AutoModel.from_pretrained(quickstart.folder)) is InhibiDistilBertModel
    assert {"report.md", "report.html", "run.yaml"} <= {file.name for file in quickstart.folder.iterdir()}
    assert quickstart.report.student_path == str(quickstart.folder)
    assert "measuring throughput" in quickstart.lines


def test_its_stages_and_steps():
    config = quickstart_config("some/teacher", 250, 7)
    assert config.stage_names == ["calibrate", "align_attention"]
    assert config.stages[1]["align_attention"]["max_steps"] == 250
    assert config.seed == 7
    assert quickstart_config("some/teacher", 1, 0).stages[1]["align_attention"]["save_steps"] == 1


def test_without_matplotlib_it_ends_before_any_work(teacher_path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match="plots need matplotlib"):
        run_quickstart(teacher_path, tmp_path / "run", steps=1)
    assert not (tmp_path / "run").exists()
