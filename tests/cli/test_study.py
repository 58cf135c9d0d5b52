"""`inhibit study` on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from inhibitor_transformers.study import Run, Study, StudyConfig


@pytest.fixture
def config(tmp_path, teacher) -> Path:
    """A study whose fine-tunings are finished already: nothing is left but to make the tables."""
    settings: dict[str, Any] = {
        "models": {"baseline": teacher, "student": {"model": teacher, "baseline": "baseline"}},
        "tasks": {"sst2": {}},
        "seeds": [0, 1],
        "data": str(tmp_path / "data"),
    }
    for model, scores in {"baseline": (0.80, 0.84), "student": (0.79, 0.83)}.items():
        for seed, score in enumerate(scores):
            folder = Run("sst2", model, 1e-4, seed).folder(tmp_path / "study")
            folder.mkdir(parents=True)
            (folder / "results.json").write_text(json.dumps({"scores": {"validation": {"accuracy": score}}}))
    (tmp_path / "study" / "study.yaml").write_text("{}")
    file = tmp_path / "study-settings.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def test_the_tables_of_what_is_finished(inhibit, config, tmp_path):
    done = inhibit("study", config, "-o", tmp_path / "study", "--table-only")
    assert done.status == 0, done.err
    assert "82.0 ± 2.8" in done.out
    assert "81.0 ± 2.8" in done.out
    assert any("baseline − student" in line and "+1.0" in line for line in done.out.splitlines())
    assert "sequences/s" in done.out


def test_the_home_folder(inhibit, config, tmp_path, monkeypatch):
    """A shell leaves the "~" of --output=~/study as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inhibit("study", f"~/{config.name}", "--output=~/study", "--table-only").status == 0


@pytest.mark.parametrize("columns", [40, 80])
def test_the_tables_on_a_narrow_terminal(columns, inhibit, config, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = inhibit("study", config, "-o", tmp_path / "study", "--table-only")
    assert max(map(len, done.out.splitlines())) <= columns
    assert {"82.0", "81.0", "2.8", "+1.0", "+1.00", "0.0001"} <= set(done.out.split())


def test_they_go_into_the_card_of_a_model_of_the_study(inhibit, refused, config, teacher, tmp_path):
    done = inhibit("study", config, "-o", tmp_path / "study", "--table-only", "--card", teacher)
    assert done.status == 0, done.err
    card = Path(teacher) / "README.md"
    try:
        assert "82.0 ± 2.8" in card.read_text(encoding="utf-8")
    finally:
        card.unlink(missing_ok=True)  # the teacher is shared by all tests
    other = tmp_path / "other"
    other.mkdir()
    message = refused("study", config, "-o", tmp_path / "study", "--table-only", "--card", other)
    assert "none of the models" in message


def test_data_and_models_instead_of_those_of_the_yaml(inhibit, config, teacher, tmp_path, monkeypatch):
    """A published study can be run by whoever has other folders than its authors."""
    built: list[StudyConfig] = []

    def keep(study: StudyConfig, output: Path, **_: Any) -> Study:
        built.append(study)
        return Study(study, output)

    monkeypatch.setattr("inhibitor_transformers.study.run_study", keep)
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["models"] = {"baseline": "runs/baseline", "student": {"model": "runs/student", "baseline": "baseline"}}
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    models = ["--model", f"runs/baseline={teacher}", "--model", f"runs/student={teacher}"]
    done = inhibit(
        "study", config, "-o", tmp_path / "study", "--data", tmp_path / "mine", *models, "--set", "seeds=[1]"
    )
    assert done.status == 0, done.err
    assert built[0].data == str(tmp_path / "mine")
    assert built[0].seeds == [1]
    assert {name: (row.model, row.baseline) for name, row in built[0].rows.items()} == {
        "baseline": (teacher, None),
        "student": (teacher, "baseline"),
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "runs/student"], "cannot read --model 'runs/student'; write OLD=NEW"),
        (["--model", "=a"], "cannot read --model '=a'"),
        (["--model", "a=b", "--model", "a=c"], "'a' is replaced twice"),
        (["--model", "nothing=b"], "no row of the study has the model 'nothing'"),
        (["--data", "a", "--set", "data=b"], "'data' is given by --data and by --set"),
    ],
)
def test_replacements_that_make_no_sense(flags, message, refused, config, tmp_path):
    assert message in refused("study", config, "-o", tmp_path / "x", *flags)


def test_what_is_refused(refused, config, tmp_path):
    assert "there is no study" in refused("study", config, "-o", tmp_path / "nothing", "--table-only")
    (tmp_path / "study" / "study.yaml").unlink()
    for flags in ((), ("--table-only",)):  # an empty table, and exit status 0, as if nothing were finished
        message = refused("study", config, "-o", tmp_path / "study", *flags)
        assert "exists; it holds no study: choose" in message or "there is no study in" in message
    message = refused("study", config, "-o", tmp_path / "x", "--set", "seeds=[]")
    assert "seeds must be" in message
