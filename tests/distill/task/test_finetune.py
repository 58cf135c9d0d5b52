"""Fine-tuning on a task, plain and with a teacher: what is learned, and what is saved."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForSequenceClassification, BertForSequenceClassification

from inhibitor_transformers.distill.task import FinetuneArguments, FinetuneResult, FineTuning
from inhibitor_transformers.evaluation.task_score import score_task
from inhibitor_transformers.models import InhibiDistilBertForMaskedLM, InhibiDistilBertForSequenceClassification
from inhibitor_transformers.models.pretrained import load_tokenizer
from inhibitor_transformers.tasks import load_task
from tests.distill.fine_tuning import FAST, custom, ratings, run, write
from tests.distill.tiny import assert_same_weights, bert, reviews, saved, weights_of


def trainer_log(folder: Path) -> list[dict[str, float]]:
    """The log of the last checkpoint of a run."""
    states = (folder / "checkpoints").glob("checkpoint-*/trainer_state.json")
    last = max(states, key=lambda file: int(file.parent.name.split("-")[1]))
    return json.loads(last.read_text())["log_history"]


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, student_path, teacher, data) -> tuple[Path, FinetuneResult, list[str]]:
    """(folder, result, what was said) of a student fine-tuned with a teacher."""
    folder, said = tmp_path_factory.mktemp("distilled") / "student", []
    return folder, run(student_path, data, folder, teacher_source=teacher[0], log=said.append), said


class TestPlain:
    def test_a_softmax_model_learns_the_task(self, teacher):
        _, result = teacher
        assert result.teacher_scores is None
        assert result.scores["validation"]["accuracy"] > 0.95

    def test_an_inhibitor_learns_the_task(self, student_path, data, tmp_path):
        result = run(student_path, data, tmp_path / "run")
        assert result.scores["validation"]["accuracy"] > 0.95

    def test_it_is_saved_as_a_classifier_of_these_labels(self, teacher, data):
        path, result = teacher
        model = AutoModelForSequenceClassification.from_pretrained(path)
        assert type(model) is BertForSequenceClassification
        assert model.config.id2label == {0: "0", 1: "1"}
        assert score_task(model, load_tokenizer(path), data, max_length=32) == result.scores

    def test_what_is_in_the_folder(self, teacher, data):
        path = Path(teacher[0])
        names = {p.name for p in path.iterdir()}
        assert names >= {
            "run.yaml",
            "results.json",
            "checkpoints",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
        }
        assert not [name for name in names if name.endswith(".half")]

    def test_results_hold_scores_settings_and_notes(self, teacher, data):
        path, result = teacher
        record = json.loads((Path(path) / "results.json").read_text())
        assert record["scores"] == result.scores
        assert record["teacher_scores"] is None
        assert record["seconds"] == result.seconds > 0
        assert record["notes"] == data.notes
        assert {"inhibit": "finetune"} | record["settings"] == yaml.safe_load((Path(path) / "run.yaml").read_text())
        assert record["settings"]["learning_rate"] == 0.003

    def test_the_teacher_s_weight_does_not_matter_without_a_teacher(self, student_path, data, tmp_path):
        run(student_path, data, tmp_path / "a", num_train_epochs=1, alpha_task=0.5)
        run(student_path, data, tmp_path / "b", num_train_epochs=1, alpha_task=0.1, alpha_soft=0.9, temperature=5.0)
        assert_same_weights(tmp_path / "a", tmp_path / "b")

    def test_a_regression(self, student_path, tmp_path):
        data = custom(tmp_path / "data", ratings(300), ratings(60, seed=1))
        result = run(student_path, data, tmp_path / "run", num_train_epochs=3)
        assert set(result.scores["validation"]) == {"pearson", "spearman"}
        assert result.scores["validation"]["pearson"] > 0.8
        assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").config.problem_type == "regression"

    def test_a_regression_begins_at_the_mean_of_its_labels(self, student_path, tmp_path):
        data = custom(tmp_path / "data", ratings(40), ratings(20, seed=1))
        run(student_path, data, tmp_path / "run", num_train_epochs=1, learning_rate=1e-9)
        output = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").classifier
        assert output.bias.item() == pytest.approx(np.mean(data.train["label"]), abs=1e-6)

    def test_the_best_epoch_is_the_one_that_is_kept(self, teacher, student_path, tmp_path):
        """Labels of the training set are the other way round, so every epoch is worse than the one before."""
        turned = [row | {"label": 1 - row["label"]} for row in reviews(240)]
        data = custom(tmp_path / "data", turned, reviews(60, seed=1))
        result = run(teacher[0], data, tmp_path / "run", num_train_epochs=3, save_total_limit=None, learning_rate=1e-3)
        checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir(), key=lambda p: int(p.name.split("-")[1]))
        assert len(checkpoints) == 3
        log = trainer_log(tmp_path / "run")
        scores = [entry["eval_validation_accuracy"] for entry in log if "eval_validation_accuracy" in entry]
        best = int(np.argmax(scores))
        assert scores[best] > scores[-1]
        assert result.scores["validation"]["accuracy"] == scores[best]
        assert_same_weights(tmp_path / "run", checkpoints[best])

    def test_the_best_epoch_can_be_chosen_by_a_part_of_train(self, student_path, tmp_path):
        """A fifth of the training examples; validation, whose labels are the other way round, has no say."""
        turned = [row | {"label": 1 - row["label"]} for row in reviews(60, seed=1)]
        data = custom(tmp_path / "data", reviews(240), turned)
        result = run(student_path, data, tmp_path / "run", num_train_epochs=3, selection_fraction=0.2)
        log = trainer_log(tmp_path / "run")
        chosen = [entry["eval_selection_accuracy"] for entry in log if "eval_selection_accuracy" in entry]
        assert len(chosen) == 3
        assert result.selection_score == max(chosen) > 0.9
        assert set(result.scores) == {"validation"}
        assert result.scores["validation"]["accuracy"] < 0.1
        assert max(entry["step"] for entry in log) == 3 * (192 // 16)

    def test_the_rate_of_attention_dropout(self, student_path, teacher_path, data, tmp_path):
        for source, field in ((student_path, "attention_dropout"), (teacher_path, "attention_probs_dropout_prob")):
            output = tmp_path / field
            run(source, data, output, num_train_epochs=1, attention_dropout=0.25)
            assert getattr(AutoConfig.from_pretrained(output), field) == 0.25
            assert json.loads((output / "results.json").read_text())["settings"]["attention_dropout"] == 0.25

    def test_it_stops_early_where_nothing_gets_better(self, teacher, tmp_path):
        turned = [row | {"label": 1 - row["label"]} for row in reviews(240)]
        data = custom(tmp_path / "data", turned, reviews(60, seed=1))
        run(teacher[0], data, tmp_path / "run", num_train_epochs=6, learning_rate=1e-3, early_stopping_patience=1)
        assert max(entry["epoch"] for entry in trainer_log(tmp_path / "run")) < 6

    def test_the_head_of_a_masked_lm_gives_way(self, tmp_path, data):
        student = saved(InhibiDistilBertForMaskedLM.from_teacher(bert()), tmp_path / "student")
        result = run(student, data, tmp_path / "run", num_train_epochs=1)
        assert set(result.scores["validation"]) == {"accuracy", "macro_f1"}
        assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")) is (
            InhibiDistilBertForSequenceClassification
        )


class TestWithTeacher:
    def test_the_student_learns(self, distilled):
        _, result, _ = distilled
        assert result.scores["validation"]["accuracy"] > 0.95

    def test_the_teacher_is_scored_first_through_the_same_pipeline(self, distilled, teacher):
        _, result, said = distilled
        assert result.teacher_scores == teacher[1].scores
        accuracy = teacher[1].scores["validation"]["accuracy"]
        scored = next(i for i, line in enumerate(said) if line.startswith("teacher on custom validation: accuracy"))
        assert f"accuracy {accuracy:.4f} (chance 0." in said[scored]
        assert scored < next(i for i, line in enumerate(said) if line.startswith("memory, estimated"))

    def test_nothing_is_aligned_unasked(self, distilled):
        folder, result, _ = distilled
        assert result.aligned_scores is None
        assert not (folder / "checkpoints/alignment").exists()

    def test_both_terms_are_logged(self, distilled):
        folder, *_ = distilled
        states = list((folder / "checkpoints").glob("checkpoint-*/trainer_state.json"))
        log = [e for p in states for e in json.loads(p.read_text())["log_history"] if "loss" in e]
        assert log
        for entry in log:
            assert entry["loss/task"] + entry["loss/soft_targets"] == pytest.approx(entry["loss"], rel=1e-5)

    def test_results_name_the_teacher(self, distilled, teacher):
        folder, *_ = distilled
        record = json.loads((folder / "results.json").read_text())
        assert record["settings"]["teacher"] == teacher[0]
        assert record["teacher_scores"] == teacher[1].scores

    def test_the_teacher_changes_what_is_learned(self, student_path, teacher, data, tmp_path):
        run(student_path, data, tmp_path / "plain", num_train_epochs=1)
        run(student_path, data, tmp_path / "taught", num_train_epochs=1, teacher_source=teacher[0])
        a, b = (weights_of(tmp_path / name)["classifier.weight"] for name in ("plain", "taught"))
        assert not torch.equal(a, b)

    def test_hidden_states_join_in(self, student_path, teacher, data, tmp_path):
        settings = {"num_train_epochs": 1, "alpha_hidden": 0.1, "teacher_source": teacher[0]}
        run(student_path, data, tmp_path / "run", **settings)
        (state,) = (tmp_path / "run" / "checkpoints").glob("*/trainer_state.json")
        assert all("loss/hidden" in e for e in json.loads(state.read_text())["log_history"] if "loss" in e)

    def test_a_regression(self, student_path, teacher_path, tmp_path):
        data = custom(tmp_path / "data", ratings(300), ratings(60, seed=1))
        run(teacher_path, data, tmp_path / "teacher", num_train_epochs=3)
        settings = {"num_train_epochs": 3, "teacher_source": str(tmp_path / "teacher")}
        result = run(student_path, data, tmp_path / "run", **settings)
        assert result.teacher_scores["validation"]["pearson"] > 0.8
        assert result.scores["validation"]["pearson"] > 0.8


def test_several_evaluation_splits(student_path, tmp_path):
    """The first split selects the epoch; every split is scored."""
    folder = tmp_path / "data"
    custom(folder, reviews(200), reviews(60, seed=1))
    write(folder, "test", reviews(60, seed=2))
    result = run(student_path, load_task("custom", folder), tmp_path / "run")
    assert list(result.scores) == ["validation", "test"]


def test_without_an_evaluation_split_some_of_train_is_held_out(student_path, tmp_path):
    write(tmp_path / "data", "train", reviews(200))
    said: list[str] = []
    result = run(student_path, load_task("custom", tmp_path / "data"), tmp_path / "run", log=said.append)
    assert list(result.scores) == ["held_out"]
    assert any("is held out" in line for line in said)


def test_paths_may_be_strings_or_paths(student_path, data, tmp_path):
    for kind in (str, Path):
        run(kind(student_path), data, kind(tmp_path / kind.__name__), num_train_epochs=1)
    assert_same_weights(tmp_path / "str", tmp_path / "Path")


@pytest.mark.parametrize("teaches", [False, True])
def test_the_arguments_of_the_caller_are_not_written_to(teaches, student_path, teacher, data, tmp_path):
    """The folder of the checkpoints and the metric of the best epoch were left in them."""
    mapping = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 1}}
    arguments = FinetuneArguments(
        output_dir="mine", max_steps=2, **(FAST | mapping | {"alignment_epochs": float(teaches)})
    )
    before = copy.deepcopy(dataclasses.asdict(arguments))
    source = teacher[0] if teaches else None
    FineTuning(student_path, data, arguments, tmp_path / "run", teacher_source=source, log=lambda _: None).run()
    assert dataclasses.asdict(arguments) == before
