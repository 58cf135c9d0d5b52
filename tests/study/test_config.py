"""The settings of a study: its rows, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.study import Study, StudyConfig
from tests.study.cases import MODELS, config


class TestRows:
    def test_a_row_s_own_training_comes_after_that_of_the_task_and_of_all(self):
        models = MODELS | {"short": {"model": "s", "training": {"num_train_epochs": 1}}}
        made = config(
            models=models, training={"num_train_epochs": 3, "max_length": 64}, tasks={"sst2": {"num_train_epochs": 2}}
        )
        epochs = {row: made.arguments("sst2", row, 1e-4, 0, Path("out")).num_train_epochs for row in made.rows}
        assert epochs == {"teacher": 2, "baseline": 2, "student": 2, "taught": 2, "short": 1}
        assert made.arguments("sst2", "short", 1e-4, 0, Path("out")).max_length == 64

    def test_a_row_with_a_task_vector_needs_what_its_teacher_was_made_from(self):
        models = MODELS | {"moved": {"model": "s", "teacher": "teacher", "task_vector": True}}
        made = config(models=models)
        assert {row: made.teacher_base(row) for row in made.rows if made.teacher_base(row)} == {"moved": "t"}

    def test_a_row_may_have_a_grid_of_its_own(self, tmp_path):
        models = MODELS | {"slow": {"model": "s", "learning_rates": ["2e-5", 5e-5]}}
        study = Study(config(models=models, training={"selection_fraction": 0.1}, seeds=[0]), tmp_path)
        rates = {(run.model, run.learning_rate) for run in study.pending()}
        assert rates == {("teacher", 1e-4), ("baseline", 1e-4), ("student", 1e-4), ("slow", 2e-5), ("slow", 5e-5)}


class TestReplacedModels:
    def test_every_row_that_names_it(self):
        made = config().replace_models({"s": "ours/student"})
        assert {name: row.model for name, row in made.rows.items()} == {
            "teacher": "t",
            "baseline": "c",
            "student": "ours/student",
            "taught": "ours/student",
        }
        assert made.rows["taught"].teacher == "teacher"

    def test_two_that_change_places(self):
        made = config().replace_models({"t": "c", "c": "t"})
        assert (made.rows["teacher"].model, made.rows["baseline"].model) == ("c", "t")

    def test_one_that_no_row_names(self):
        with pytest.raises(ConfigError, match="no row of the study has the model 'student'; there are t, c, s"):
            config().replace_models({"student": "ours"})


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"models": {}}, "models must be"),
            ({"models": {"a": {"model": 5}}}, "models: a: model must be a name, got 5"),
            ({"models": {"a": {"model": ["a"]}}}, "models: a: model must be a name"),
            ({"models": {"a": {"model": "x", "teacher": ["a"]}}}, "models: a: teacher must be a name"),
            ({"training": [1]}, "training must be a mapping of settings"),
            ({"training": None}, "training must be a mapping of settings"),
            ({"training": {"teacher_cache": 5}}, "teacher_cache must be a folder, got 5"),
            ({"data": 5}, "data must be a file or folder, got 5"),
            ({"learning_rates": [True]}, "learning_rates must be numbers"),
            ({"models": {"a": {"model": "x", "teacher": "b"}}}, "teacher 'b' is none of the models"),
            ({"models": {"a": {"model": "x", "baseline": "b"}}}, "baseline 'b' is none of the models"),
            ({"models": {"a": {"model": "x", "control": "a"}}}, "models: a has no setting 'control'"),
            ({"models": {"../a": "x"}}, "a name must be of letters"),
            ({"models": {"a": {"modle": "x"}}}, "no setting 'modle'"),
            (
                {"tasks": {"sst3": {}}},
                r"tasks: sst3: it is none of the known .*give it `data`, a file or folder",
            ),
            ({"tasks": {"custom": None}}, "tasks: custom: .* give it `data`"),
            ({"tasks": {"mine": {}}, "data": "d"}, "tasks: mine: .* give it `data`"),
            ({"tasks": {"sst2": {"text_columns": ["a"]}}}, "tasks: sst2: text_columns are of one's own data"),
            ({"tasks": {"../mine": {"data": "d"}}}, "tasks: a name must be of letters"),
            ({"tasks": {"mine": {"data": 3}}}, "tasks: mine: data must be a name, got 3"),
            (
                {"tasks": {"mine": {"data": "d", "text_columns": 3}}},
                "mine: text_columns must be one name or a list",
            ),
            ({"tasks": {"mine": ["d"]}}, "tasks: mine must be a mapping of settings"),
            ({"tasks": {"sst2": {"max_train_examples": 0}}}, "tasks: sst2: max_train_examples must be positive, got 0"),
            (
                {"tasks": {"sst2": {"max_eval_examples": "few"}}},
                "sst2: max_eval_examples must be a whole number",
            ),
            ({"learning_rates": [0]}, "each of learning_rates must be positive, got 0.0"),
            ({"learning_rates": [".nan"]}, "learning_rates must be numbers"),
            ({"learning_rates": [float("nan")]}, "each of learning_rates must be positive, got nan"),
            ({"learning_rates": [1e-4, "1e-4"]}, "learning_rates must differ"),
            ({"seeds": [0, 0]}, "seeds must differ from each other"),
            ({"seeds": [-1]}, "each of seeds must be from 0"),
            ({"seeds": [True]}, "seeds must be whole numbers"),
            ({"data_seed": -1}, "data_seed must be from 0"),
            ({"tasks": {"sst2": {"epochs": 3}}}, "no setting 'epochs'"),
            ({"learning_rates": [1e-4, 1e-3]}, "selection_fraction above 0"),
            ({"training": {"output_dir": "x"}}, "output_dir"),
            ({"learning_rates": ["fast"]}, "learning_rates must be numbers"),
            ({"seeds": ["a"]}, "seeds must be whole numbers"),
        ],
    )
    def test_settings(self, given, message):
        with pytest.raises(ValueError, match=message):
            config(**given)

    @pytest.mark.parametrize(
        ("own", "message"),
        [
            ({"task_vector": True}, "models: row: task_vector needs a teacher"),
            ({"training": {"seed": 1}}, "seed cannot be set in training, tasks or models; give seeds"),
            ({"training": {"epochs": 1}}, "training of row on sst2 has no setting 'epochs'"),
            ({"training": 3}, "models: row: training must be a mapping"),
            ({"learning_rates": ["fast"]}, "learning_rates must be numbers"),
            ({"training": {"alignment_epochs": 1}}, "models: row: alignment_epochs needs a teacher"),
            ({"learning_rates": []}, "learning_rates must be a list of at least one entry"),
            ({"learning_rates": [1e-4, 1e-3]}, "selection_fraction above 0"),
        ],
    )
    def test_settings_of_a_row(self, own, message):
        with pytest.raises(ConfigError, match=message):
            config(models={"row": {"model": "x", **own}})

    def test_learning_rates_as_yaml_reads_them(self):
        assert config(learning_rates=["1e-4"]).learning_rates == [1e-4]

    def test_a_teacher_with_a_teacher(self):
        models = MODELS | {"again": {"model": "s", "teacher": "taught"}}
        with pytest.raises(ConfigError, match="has a teacher itself"):
            config(models=models)


STUDIES = sorted((Path(__file__).resolve().parents[2] / "configs" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_published_studies_are_valid(file):
    built = StudyConfig(**yaml.safe_load(file.read_text(encoding="utf-8")))
    assert {row.baseline for row in built.rows.values()} - {None}
    assert built.data is None  # the Hub's, or what --data says
