"""A study: what it runs, in which order, what it goes on with, and its table."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from transformers import BertForSequenceClassification

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.distill.task import FineTuning
from inhibitor_transformers.distill.task.teacher import TeacherAtChanceError
from inhibitor_transformers.study import Run, Study, StudyConfig, run_study
from inhibitor_transformers.study import run as study_run
from inhibitor_transformers.study.record import Record
from inhibitor_transformers.study.run import StudyFailedError
from inhibitor_transformers.study.table import drop, drop_table, rate_table, score, score_table
from inhibitor_transformers.study.worker import execute
from tests.distill.fine_tuning import FAST, write
from tests.distill.tiny import bert, bert_tokenizer, reviews, saved

STUDIES = sorted((Path(__file__).resolve().parents[2] / "configs" / "studies").glob("*.yaml"))
MODELS: dict[str, Any] = {
    "teacher": "t",
    "baseline": "c",
    "student": {"model": "s", "baseline": "baseline"},
    "taught": {"model": "s", "teacher": "teacher", "baseline": "baseline"},
}


def config(**given: Any) -> StudyConfig:
    settings: dict[str, Any] = {"models": MODELS, "tasks": {"sst2": {}, "cola": {}}, "seeds": [0, 1]}
    return StudyConfig(**(settings | given))


def finish(study: Study, run: Run, value: float, selection: float | None = None) -> None:
    folder = run.folder(study.output)
    folder.mkdir(parents=True, exist_ok=True)
    metric = {"sst2": "accuracy", "cola": "matthews_correlation"}[run.task]
    record = {"scores": {"validation": {metric: value}}, "selection_score": selection}
    (folder / "results.json").write_text(json.dumps(record))
    if study.is_teacher(run.model):
        (folder / "model.safetensors").touch()


class TestRuns:
    def test_a_taught_model_waits_for_its_teacher_of_the_same_seed(self, tmp_path):
        study = Study(config(), tmp_path)
        assert {(c.model, c.seed) for c in study.pending()} == {
            (model, seed) for model in ("teacher", "baseline", "student") for seed in (0, 1)
        }
        finish(study, Run("sst2", "teacher", 1e-4, 1), 0.9)
        assert [c for c in study.pending() if c.model == "taught"] == [Run("sst2", "taught", 1e-4, 1)]
        assert study.teacher_folder(Run("sst2", "taught", 1e-4, 1)) == tmp_path / "sst2/teacher/lr-0.0001/seed-1"

    def test_a_model_whose_weights_were_not_kept_is_trained_again_for_a_row_that_it_teaches(self, tmp_path):
        alone = Study(config(models={"teacher": "t"}, tasks={"sst2": {}}, seeds=[0]), tmp_path)
        teacher, taught = Run("sst2", "teacher", 1e-4, 0), Run("sst2", "taught", 1e-4, 0)
        finish(alone, teacher, 0.9)
        assert list(alone.pending()) == []
        models = {"teacher": "t", "taught": {"model": "s", "teacher": "teacher"}}
        study = Study(config(models=models, tasks={"sst2": {}}, seeds=[0]), tmp_path)
        assert list(study.pending()) == [teacher]
        finish(study, teacher, 0.9)
        assert list(study.pending()) == [taught]
        finish(study, taught, 0.9)
        (teacher.folder(tmp_path) / "model.safetensors").unlink()  # not needed any more
        assert list(study.pending()) == []

    def test_the_first_seed_comes_first(self, tmp_path):
        seeds = [run.seed for run in Study(config(), tmp_path).pending()]
        assert seeds == sorted(seeds)

    def test_the_grid_is_searched_with_the_first_seed_and_the_best_rate_serves_the_others(self, tmp_path):
        study = Study(config(learning_rates=[1e-4, 3e-4], training={"selection_fraction": 0.1}), tmp_path)
        ours = [c for c in study.pending() if (c.task, c.model) == ("sst2", "student")]
        assert {(c.learning_rate, c.seed) for c in ours} == {(1e-4, 0), (3e-4, 0)}
        finish(study, Run("sst2", "student", 1e-4, 0), 0.9, selection=0.7)
        assert study.learning_rate("sst2", "student") is None
        finish(study, Run("sst2", "student", 3e-4, 0), 0.8, selection=0.8)
        assert study.learning_rate("sst2", "student") == 3e-4
        ours = [c for c in study.pending() if (c.task, c.model) == ("sst2", "student")]
        assert ours == [Run("sst2", "student", 3e-4, 1)]

    def test_how_many_are_left(self, tmp_path):
        settings = {"models": {"teacher": "t"}, "tasks": {"sst2": {}}, "training": {"selection_fraction": 0.1}}
        study = Study(config(**settings, learning_rates=[1e-4, 2e-4, 3e-4]), tmp_path)
        counts = []
        while run := next(study.pending(), None):
            counts.append(study.count_left())
            finish(study, run, 0.9, selection=0.5)
        assert counts == [4, 3, 2, 1]  # the grid with the first seed, its best rate with the second
        assert study.count_left() == 0
        assert Study(config(), tmp_path / "other").count_left() == 2 * 4 * 2

    def test_nothing_is_left_when_all_is_finished_or_skipped(self, tmp_path):
        study = Study(config(tasks={"sst2": {}}, seeds=[0]), tmp_path)
        for model in ("teacher", "baseline", "student"):
            finish(study, Run("sst2", model, 1e-4, 0), 0.5)
        (taught,) = study.pending()
        taught.folder(tmp_path).mkdir(parents=True)
        (taught.folder(tmp_path) / "skipped.txt").write_text("no better than chance")
        assert list(study.pending()) == []


def test_rates_that_are_nearly_equal_have_folders_of_their_own(tmp_path):
    rates = (1e-4, 0.00010000001)
    assert len({Run("sst2", "a", rate, 0).folder(tmp_path) for rate in rates}) == 2
    assert Run("sst2", "a", 1e-4, 0).folder(tmp_path).parent.name == "lr-0.0001"


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


class TestTable:
    @pytest.fixture
    def study(self, tmp_path) -> Study:
        study = Study(config(), tmp_path)
        for model, values in {"baseline": (0.80, 0.84), "student": (0.81, 0.81)}.items():
            for seed, value in enumerate(values):
                finish(study, Run("sst2", model, 1e-4, seed), value)
        finish(study, Run("cola", "baseline", 1e-4, 0), 0.30)
        finish(study, Run("cola", "student", 1e-4, 0), 0.27)
        return study

    def test_mean_and_deviation_over_the_seeds(self, study):
        found = score(study, "sst2", "baseline")
        assert found is not None
        assert found.mean == pytest.approx(82.0)
        assert found.deviation == pytest.approx(2.828, abs=1e-3)
        assert found.seeds == 2
        assert score(study, "sst2", "taught") is None

    def test_the_loss_against_the_baseline(self, study):
        lost = drop(study, "student")
        assert lost is not None
        assert lost.tasks == pytest.approx({"sst2": 1.0, "cola": 3.0})
        assert (lost.mean, lost.largest) == pytest.approx((2.0, 3.0))
        assert drop(study, "baseline") is None
        assert drop(study, "taught") is None  # nothing finished

    def test_what_is_not_finished_is_a_dash(self, study):
        rows = {row[0]: row[1:] for row in score_table(study).rows}
        assert rows["baseline"] == ["82.0 ± 2.8", "30.0", "56.0"]
        assert rows["taught"] == ["–", "–", "–"]
        assert drop_table(study).rows == [["baseline − student", "+1.0", "+3.0", "+2.00", "+3.0"]]
        assert rate_table(study).rows[0] == ["teacher", "0.0001", "0.0001"]


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


@pytest.fixture(scope="module")
def small(tmp_path_factory, teacher_path) -> StudyConfig:
    """Two rows of the same tiny model, one taught by the other, on a task of a few sentences."""
    data = tmp_path_factory.mktemp("data")
    folder = data / "sst2"
    for split, rows in (("train", reviews(240)), ("validation", reviews(40, seed=1))):
        write(folder, split, [{"sentence": row["text"], "label": row["label"]} for row in rows])
    return StudyConfig(
        models={
            "teacher": teacher_path,
            "taught": {"model": teacher_path, "teacher": "teacher", "baseline": "teacher"},
        },
        tasks={"sst2": {}},
        seeds=[0],
        learning_rates=[1e-3, 3e-3],
        training={k: v for k, v in FAST.items() if k != "learning_rate"} | {"selection_fraction": 0.2},
        data=str(data),
    )


def killed(*_: Any) -> str:
    """As by a system without memory; found by its name in the worker."""
    os._exit(9)


class TestRun:
    def test_everything_is_run_once_and_the_weights_of_teachers_stay(self, small, tmp_path):
        said: list[str] = []
        study = run_study(small, tmp_path / "study", jobs=2, log=said.append)
        assert list(study.pending()) == []
        assert len([line for line in said if line.startswith("sst2/")]) == 4  # the others are notes on the data
        for rate in small.learning_rates:
            assert (Run("sst2", "teacher", rate, 0).folder(study.output) / "model.safetensors").exists()
            assert not (Run("sst2", "taught", rate, 0).folder(study.output) / "model.safetensors").exists()
        (taught,) = study.runs("sst2", "taught")
        record = study.result(taught)
        assert record is not None
        assert record["settings"]["teacher"] == str(study.teacher_folder(taught))
        again: list[str] = []
        run_study(small, tmp_path / "study", resume=True, log=again.append)
        assert again == []

    def test_a_taught_row_that_is_added_later_gets_its_teacher(self, small, tmp_path):
        alone = dataclasses.replace(small, models={"teacher": small.models["teacher"]}, learning_rates=[1e-3])
        study = run_study(alone, tmp_path / "study", log=lambda _: None)
        teacher = Run("sst2", "teacher", 1e-3, 0)
        before = study.result(teacher)
        assert before is not None
        assert not (teacher.folder(study.output) / "model.safetensors").exists()
        both = dataclasses.replace(small, learning_rates=[1e-3])
        study = run_study(both, tmp_path / "study", resume=True, log=lambda _: None)
        again = study.result(teacher)
        assert again is not None
        assert again["scores"] == before["scores"]
        assert study.result(dataclasses.replace(teacher, model="taught")) is not None

    def test_a_study_of_an_earlier_version_goes_on(self, small, tmp_path):
        """Its record lacks what rows could not yet say."""
        run_study(small, tmp_path / "study", jobs=2, log=lambda _: None)
        record = yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())
        for row in record["models"].values():
            del row["learning_rates"], row["task_vector"], row["training"]
        (tmp_path / "study" / "study.yaml").write_text(yaml.safe_dump(record))
        run_study(small, tmp_path / "study", resume=True, log=pytest.fail)

    def test_the_home_folder(self, tmp_path, monkeypatch):
        """Half of a study was written to ./~."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(study_run, "make_record", lambda _: Record({}, []))
        monkeypatch.setattr(study_run, "_run_pending", lambda study, *_: study)
        assert run_study(config(), "~/study").output == tmp_path / "study"
        assert os.listdir() == ["study"]

    def test_an_existing_folder_and_other_settings(self, small, tmp_path):
        record = dataclasses.asdict(small) | {"weights": {}, "examples": {}}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(record | {"training": {}}))
        with pytest.raises(ConfigError, match="add --resume"):
            run_study(small, tmp_path)
        with pytest.raises(ConfigError, match=r"other settings than this study \(training\)"):
            run_study(small, tmp_path, resume=True)
        weights = {small.rows["teacher"].model: "of another model"}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(record | {"weights": weights}))
        with pytest.raises(ConfigError, match=r"other settings than this study \(weights: "):
            run_study(small, tmp_path, resume=True)
        other = tmp_path / "other"
        other.mkdir()
        (other / "file").touch()
        with pytest.raises(ConfigError, match="no study to resume"):
            run_study(small, other, resume=True)

    @pytest.mark.parametrize("content", ["", "[", "- a", "models: {}", "training: {}\nmodels: 5"])
    def test_a_damaged_record_cannot_be_gone_on_with(self, content, small, tmp_path):
        (tmp_path / "study.yaml").write_text(content)
        with pytest.raises(ConfigError, match=r"study.yaml is damaged[;:][^\n]* use another folder$"):
            run_study(small, str(tmp_path), resume=True)

    def test_damaged_results_are_named(self, small, tmp_path):
        run = Run("sst2", "teacher", 1e-3, 0)
        run.folder(tmp_path).mkdir(parents=True)
        (run.folder(tmp_path) / "results.json").write_text('{"scores": {')
        with pytest.raises(ConfigError, match=r"results.json is damaged; delete it, and this fine-tuning is run"):
            Study(small, tmp_path).result(run)

    def test_a_process_that_was_killed(self, small, tmp_path, monkeypatch):
        monkeypatch.setattr(study_run, "execute", killed)
        with pytest.raises(StudyFailedError, match="a process was ended from outside, perhaps for lack of memory"):
            run_study(small, tmp_path / "study", log=lambda _: None)

    def test_a_teacher_at_chance_is_noted_and_not_distilled_from(self, small, tmp_path, monkeypatch):
        def refuse(_: FineTuning) -> None:
            raise TeacherAtChanceError("no better than chance")

        monkeypatch.setattr(FineTuning, "run", refuse)
        run = Run("sst2", "teacher", 1e-3, 0)
        assert execute(small, tmp_path, run, 1) == "no better than chance"
        assert Study(small, tmp_path).is_skipped(run)

    def test_a_failure_is_told_after_the_others_have_run(self, small, tmp_path):
        diverging = {"model": small.models["teacher"], "learning_rates": [1e30, 2e30]}
        broken = dataclasses.replace(small, models={"diverging": diverging} | small.models)
        with pytest.raises(StudyFailedError, match=r"2 fine-tunings failed; the first, sst2/diverging/lr-1e\+30/"):
            run_study(broken, tmp_path / "study", jobs=2, log=lambda _: None)
        assert list(Study(small, tmp_path / "study").pending()) == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"models": {"a": "NARROW"}}, "models: a on sst2: max_length: 32 tokens are more than"),
            ({"models": {"a": "THREE"}}, "models: a on sst2: the head of .* is not one of 2 labels"),
            (
                {"models": {"a": "CASED", "b": {"model": "NARROW", "teacher": "a"}}, "training": {"max_length": 16}},
                "models: b and its teacher a: .*tokenizer",
            ),
            ({"training": {"teacher_cache": "NARROW"}, "models": {"a": "NARROW"}}, "is the model"),
        ],
    )
    def test_what_no_worker_could_do(self, change, message, small, tmp_path):
        models = {
            "NARROW": saved(bert(max_position_embeddings=16), tmp_path / "narrow"),
            "THREE": saved(bert(BertForSequenceClassification, num_labels=3), tmp_path / "three"),
            "CASED": saved(bert(), tmp_path / "cased", bert_tokenizer(do_lower_case=False)),
        }
        named = yaml.safe_load(re.sub("[A-Z]{4,}", lambda m: models[m[0]], yaml.safe_dump(change)))
        named["training"] = small.training | named.get("training", {})
        with pytest.raises(ConfigError, match=message):
            run_study(dataclasses.replace(small, **named), tmp_path / "study", log=lambda _: None)
        assert not (tmp_path / "study").exists()

    @pytest.mark.parametrize("number", [{"threads": 0}, {"jobs": 1.5}, {"jobs": True}, {"threads": "2"}])
    def test_numbers_of_processes(self, number, small, tmp_path):
        with pytest.raises(ConfigError, match=f"{next(iter(number))} must be a positive whole number"):
            run_study(small, tmp_path / "study", **number)

    def test_results_of_another_run_are_not_the_study_s(self, small, tmp_path):
        """`finetune -o STUDY/…/seed-0 --overwrite` was taken for the study's own."""
        study = run_study(
            dataclasses.replace(small, models={"a": small.models["teacher"]}, learning_rates=[1e-3]),
            tmp_path / "study",
            log=lambda _: None,
        )
        file = Run("sst2", "a", 1e-3, 0).folder(study.output) / "results.json"
        record = json.loads(file.read_text())
        file.write_text(json.dumps(record | {"settings": record["settings"] | {"learning_rate": 0.5}}))
        with pytest.raises(ConfigError, match=r"seed-0 holds a fine-tuning that is not this study's \(learning_rate\)"):
            run_study(study.config, tmp_path / "study", resume=True)

    def test_a_model_that_is_not_there(self, small, tmp_path):
        broken = dataclasses.replace(small, models=small.models | {"wrong": "no/such/folder"})
        with pytest.raises(ValueError, match="no/such/folder"):
            run_study(broken, tmp_path / "study")
        assert not (tmp_path / "study").exists()


class TestOwnData:
    """Studies on a user's own data: their error recommended "custom", which they refused."""

    @pytest.fixture
    def own(self, teacher_path, tmp_path) -> StudyConfig:
        """Two tasks: a file with columns of other names and scores, and a folder with train and validation."""
        rows = [{"review": row["text"], "stars": f"{row['label']}.5"} for row in reviews(60)]
        write(tmp_path / "data", "stars", rows)
        write(tmp_path / "folder", "train", reviews(40))
        write(tmp_path / "folder", "validation", reviews(20, seed=1))
        stars = {"data": str(tmp_path / "data" / "stars.csv"), "text_columns": "review", "label_column": "stars"}
        return StudyConfig(
            models={"model": teacher_path},
            tasks={"stars": stars, "custom": {"max_steps": 1}},
            seeds=[0],
            training={k: v for k, v in FAST.items() if k != "learning_rate"} | {"max_steps": 2},
            data=str(tmp_path / "folder"),
        )

    def test_names_of_one_s_own_choice(self, own, tmp_path):
        said: list[str] = []
        study, seen = run_study(own, tmp_path / "study", log=said.append), {}
        assert said[0] == "stars: text from review, regression (decimal labels) from stars"
        for task in ("stars", "custom"):
            (run,) = study.runs(task, "model")
            record = study.result(run)
            assert record is not None
            seen[task] = {split: list(scores) for split, scores in record["scores"].items()}
            assert record["settings"]["task"] == task
        assert seen == {
            "stars": {"held_out": ["pearson", "spearman"]},
            "custom": {"validation": ["accuracy", "macro_f1"]},
        }
        assert score_table(study).header == ["", "stars pearson", "custom accuracy", "mean"]
        assert "–" not in score_table(study).rows[0]
        run_study(own, tmp_path / "study", resume=True, log=pytest.fail)
        self.data_that_changed_is_noticed(own, tmp_path)

    def data_that_changed_is_noticed(self, own, tmp_path):
        with (tmp_path / "folder" / "validation.csv").open("a", encoding="utf-8") as file:
            file.write("the cat,1\n")
        with pytest.raises(ConfigError, match=r"other settings than this study \(examples: custom\)"):
            run_study(own, tmp_path / "study", resume=True)

    def test_what_is_held_out_is_the_same_for_every_row_and_seed(self, own):
        first, again = (own.study_tasks["stars"].load(own.data_seed) for _ in range(2))
        assert first.evaluation["held_out"][:] == again.evaluation["held_out"][:]
        assert first.task.name == "stars"
        other = own.study_tasks["stars"].load(1)
        assert other.evaluation["held_out"][:] != first.evaluation["held_out"][:]

    def test_data_that_is_not_there_is_told_before_any_work(self, own, tmp_path):
        gone = dataclasses.replace(own, tasks={"mine": {"data": str(tmp_path / "gone.csv")}})
        with pytest.raises(FileNotFoundError, match=r"gone\.csv: no such file or folder"):
            run_study(gone, tmp_path / "study")
        assert not (tmp_path / "study").exists()

    def test_a_known_task_may_have_its_own_folder(self, tmp_path):
        made = config(tasks={"sst2": {"data": "here"}, "cola": {}}, data="there")
        assert {name: (part.data, part.is_own) for name, part in made.study_tasks.items()} == {
            "sst2": ("here", False),
            "cola": ("there", False),
        }

    def test_a_table_without_results(self, own, tmp_path):
        assert score_table(Study(own, tmp_path)).header == ["", "stars", "custom", "mean"]


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_published_studies_are_valid(file):
    built = StudyConfig(**yaml.safe_load(file.read_text(encoding="utf-8")))
    assert {row.baseline for row in built.rows.values()} - {None}


_KILLED_STUDY = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from inhibitor_transformers.study.worker import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_workers_end_with_the_study(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(_KILLED_STUDY)
    study = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert study.stdout is not None
    worker = int(study.stdout.readline())
    study.kill()
    study.wait()
    try:
        psutil.Process(worker).wait(60)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        pytest.fail("the worker goes on")
