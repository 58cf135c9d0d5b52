"""A study is run: everything once, resumed, and only on what it began with."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from typing import Any

import pytest
import yaml
from transformers import BertForSequenceClassification

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.distill.task import FineTuning
from inhibitor_transformers.distill.task.teacher import TeacherAtChanceError
from inhibitor_transformers.study import Run, Study, run_study
from inhibitor_transformers.study import run as study_run
from inhibitor_transformers.study.record import Record
from inhibitor_transformers.study.run import StudyFailedError
from inhibitor_transformers.study.worker import execute
from tests.distill.tiny import bert, bert_tokenizer, saved
from tests.study.cases import config


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

    @pytest.mark.slow
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

    @pytest.mark.slow
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

    def test_a_record_with_a_former_name_is_refused_by_its_own_name(self, small, tmp_path):
        """The message named a row only: one looked for the old key in a YAML that does not have it."""
        record = dataclasses.asdict(small) | {"weights": {}, "examples": {}}
        record["models"] = {"teacher": {"model": small.rows["teacher"].model, "control": None}}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(record))
        with pytest.raises(ConfigError, match=r"study.yaml: .*'control': it is called 'baseline' now: use another fol"):
            run_study(small, tmp_path, resume=True)

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

    @pytest.mark.slow
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
