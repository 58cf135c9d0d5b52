"""The comparison of heads on standard cells, on a tiny student."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inhibitor_transformers import InhibiDistilBertModel
from tests.distill.tiny import bert, saved, sentences, text_file
from tests.scripts import Script

pytest.importorskip("amaranth", reason="circuits need amaranth")
from inhibitor_transformers.hardware import heads
from inhibitor_transformers.hardware.comparison import Setting
from tests.hardware.gates.designs import needs_library, needs_yosys


@needs_library
@needs_yosys
def test_its_rows(script: Script, tmp_path, monkeypatch):
    benchmark = script("hardware")
    monkeypatch.setattr(heads, "LANES", 8)
    monkeypatch.setattr(benchmark, "settings", lambda *_, **__: [Setting(bits=4, length=16)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    student = saved(InhibiDistilBertModel.from_teacher(bert(), inhibitor_center="none"), tmp_path / "student")
    teacher, text = saved(bert(), tmp_path / "teacher"), text_file(tmp_path, [" ".join(sentences(100))] * 9)
    flags = ["--student", student, "--teacher", teacher, "--text", text, "--rows", "1", "--threads", "1"]
    benchmark.main([*flags, "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows[0].keys() >= {"bits", "n", "d", "layer", "measure", "softmax", "inhibitor", "ratio"}
    with pytest.raises(SystemExit, match="exists; name a new file"):
        benchmark.main([*flags, "--json", str(tmp_path / "rows.json")])


def test_what_is_measured(script: Script):
    settings = script("hardware").settings
    assert [(s.bits, s.length, s.layer) for s in settings(6, quick=True)] == [(8, 128, 0), (8, 128, 2)]
    every = settings(6, quick=False)
    assert len(set(every)) == len(every)
    assert {s.bits for s in every} == {4, 8, 16}
    assert {s.length for s in every} == {64, 128, 512}


def test_the_figure(script: Script, tmp_path, monkeypatch):
    figure = script("hardware_figure")
    rows = Path(__file__).parents[2] / "docs/assets/hardware.json"
    monkeypatch.setattr("sys.argv", ["hardware_figure.py", str(rows), str(tmp_path / "figure.svg")])
    figure.main()
    assert "<svg" in (tmp_path / "figure.svg").read_text()
    assert len(figure.ratios(json.loads(rows.read_text()), "logic", 8)) == 2
    with pytest.raises(SystemExit, match="exists; name a new file"):
        figure.main()
