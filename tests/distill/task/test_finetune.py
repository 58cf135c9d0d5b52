"""Fine-tuning on a task, plain and with a teacher: what is refused, what is saved, and exact resumption."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    RobertaForSequenceClassification,
)

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.distill.task.finetune import FinetuneArguments, FinetuneResult, finetune, load_for_task
from inhibitor_transformers.distill.task.loss import TaskLoss
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.evaluation.task_score import score_task
from inhibitor_transformers.models import (
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertForSequenceClassification,
    InhibiDistilBertModel,
)
from inhibitor_transformers.models.pretrained import load_tokenizer
from inhibitor_transformers.tasks import TaskData, load_task
from tests.distill.fine_tuning import FAST, StoppedError, custom, pairs, ratings, run, write
from tests.distill.tiny import (
    assert_same_weights,
    bert,
    bert_tokenizer,
    distilbert,
    distilbert_tokenizer,
    reviews,
    roberta,
    roberta_tokenizer,
    saved,
    weights_of,
)


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

    @pytest.mark.parametrize(
        ("model", "classifier"),
        [(bert, BertForSequenceClassification), (distilbert, DistilBertForSequenceClassification)],
    )
    def test_only_a_new_head_begins_there(self, model, classifier, tmp_path):
        task = custom(tmp_path / "data", ratings(20), ratings(20, seed=1)).task
        new = load_for_task(saved(model(), tmp_path / "encoder"), task, label_mean=2.5)
        trained = model(classifier, num_labels=1)
        torch.nn.init.constant_(trained.classifier.bias, 0.5)
        kept = load_for_task(saved(trained, tmp_path / "classifier"), task, label_mean=2.5)
        assert (new.classifier.bias.item(), kept.classifier.bias.item()) == (2.5, 0.5)

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


@pytest.fixture(scope="module")
def started(student_path, teacher_path, teacher, data, tmp_path_factory) -> tuple[Path, FinetuneResult, str]:
    """(folder, result, what was said) of a run that changes nothing any more."""
    folder, said = tmp_path_factory.mktemp("vector") / "run", []
    sources = {"teacher_source": teacher[0], "teacher_base": teacher_path}
    settings = {"num_train_epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    return folder, run(student_path, data, folder, log=said.append, **sources, **settings), "\n".join(said)


class TestTaskVector:
    """The student starts from what fine-tuning changed in its teacher; of BERT's head there is nothing to take."""

    def test_the_weights_are_the_student_s_and_what_changed(self, started, student_path, teacher_path, teacher):
        ours, before = weights_of(started[0]), weights_of(student_path)
        base, tuned = weights_of(teacher_path), weights_of(teacher[0])
        name, theirs = "transformer.layer.1.ffn.lin1.weight", "encoder.layer.1.intermediate.dense.weight"
        moved = tuned[f"bert.{theirs}"] - base[theirs]
        assert moved.abs().max() > 1e-3
        torch.testing.assert_close(ours[f"distilbert.{name}"], before[name] + moved)

    def test_it_is_scored_before_training(self, started):
        folder, result, said = started
        assert result.initial_scores == result.scores
        accuracy = result.scores["validation"]["accuracy"]
        assert f"with the teacher's task vector on custom validation: accuracy {accuracy:.4f}; its head starts" in said
        record = json.loads((folder / "results.json").read_text())
        assert record["initial_scores"] == result.scores

    def test_the_base_is_recorded_and_a_run_with_another_start_is_not_resumed(
        self, started, student_path, teacher, data
    ):
        folder, *_ = started
        assert "teacher_base" in json.loads((folder / "results.json").read_text())["settings"]
        settings = {"num_train_epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
        with pytest.raises(ConfigError, match="teacher_base"):
            run(student_path, data, folder, teacher_source=teacher[0], resume=True, **settings)

    def test_a_base_without_a_teacher(self, student_path, teacher_path, data, tmp_path):
        with pytest.raises(ConfigError, match="a teacher's base needs the teacher"):
            run(student_path, data, tmp_path / "run", teacher_base=teacher_path)
        assert not (tmp_path / "run").exists()

    def test_a_base_of_another_architecture(self, student_path, teacher, data, tmp_path):
        base = saved(distilbert(), tmp_path / "base")
        with pytest.raises(ValueError, match="was not fine-tuned from a distilbert"):
            run(student_path, data, tmp_path / "run", teacher_source=teacher[0], teacher_base=base)
        assert not (tmp_path / "run").exists()


class TestRefusals:
    def classifier(self, folder: Path, tokenizer: Any = None, **settings: Any) -> str:
        return saved(bert(BertForSequenceClassification, **settings), folder, tokenizer)

    def refused(self, student_path: str, data: TaskData, teacher: str, output: Path, **settings: Any) -> str:
        with pytest.raises(ValueError, match=r"\w") as error:
            run(student_path, data, output, teacher_source=teacher, **settings)
        assert not output.exists()
        return str(error.value)

    def test_a_teacher_no_better_than_chance(self, student_path, data, tmp_path):
        model = bert(BertForSequenceClassification)
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias[:] = torch.tensor([1.0, 0.0])
        said: list[str] = []
        teacher = saved(model, tmp_path / "teacher")
        message = self.refused(student_path, data, teacher, tmp_path / "run", log=said.append)
        assert "is no better than chance on custom validation: accuracy 0." in message
        assert "a model fine-tuned on custom with this tokenizer is needed" in message
        assert any(line.startswith("teacher on custom validation: accuracy 0.") for line in said)

    def test_a_teacher_without_a_classifier(self, student_path, data, teacher_path, tmp_path):
        message = self.refused(student_path, data, teacher_path, tmp_path / "run")
        assert "classifier" in message
        assert "would be random" in message

    def test_too_few_examples_to_choose_an_epoch_by(self, student_path, tmp_path):
        """The folder was there already when it was found out."""
        few = custom(tmp_path / "data", reviews(2, seed=3), reviews(4, seed=1))
        few.train = few.train.select([0])
        with pytest.raises(ValueError, match=r"1 row\(s\) are too few to hold some out"):
            run(student_path, few, tmp_path / "run", selection_fraction=0.5)
        assert not (tmp_path / "run").exists()

    def test_another_number_of_labels(self, student_path, data, tmp_path):
        teacher = self.classifier(tmp_path / "teacher", num_labels=3)
        assert "has 3 labels, custom has 2" in self.refused(student_path, data, teacher, tmp_path / "run")

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"id2label": {0: "entailment", 1: "not_entailment"}},
                "tells entailment, not_entailment apart, custom 0, 1",
            ),
            ({"problem_type": "multi_label_classification"}, "was made for multi_label_classification"),
        ],
    )
    def test_a_teacher_of_another_task(self, fields, message, student_path, data, tmp_path):
        """Of as many labels; it taught nonsense, unless it was found to be at chance."""
        teacher = self.classifier(tmp_path / "teacher", **fields)
        assert message in self.refused(student_path, data, teacher, tmp_path / "run")

    @pytest.mark.parametrize("names", [["pos", "neg"], ["Pos", "Neg"]])
    def test_another_order_of_labels(self, names, student_path, tmp_path):
        rows = [row | {"label": "pos" if row["label"] else "neg"} for row in reviews(100)]
        data = custom(tmp_path / "data", rows, rows[:40])
        teacher = self.classifier(tmp_path / "teacher", id2label=dict(enumerate(names)))
        message = self.refused(student_path, data, teacher, tmp_path / "run")
        assert f"orders its labels {names}, custom has ['neg', 'pos']" in message

    def test_labels_in_order_are_accepted_whatever_their_case(self, student_path, teacher, data, tmp_path):
        rows = [row | {"label": "pos" if row["label"] else "neg"} for row in reviews(100)]
        named = custom(tmp_path / "data", rows, rows[:40])
        model = BertForSequenceClassification.from_pretrained(teacher[0], id2label={0: "NEG", 1: "POS"})
        run(student_path, named, tmp_path / "run", teacher_source=saved(model, tmp_path / "teacher"), max_steps=2)

    def test_another_vocabulary(self, student_path, data, tmp_path):
        teacher = saved(roberta(RobertaForSequenceClassification), tmp_path / "teacher", roberta_tokenizer())
        assert "must share a tokenizer: vocab" in self.refused(student_path, data, teacher, tmp_path / "run")

    def test_a_cased_tokenizer(self, student_path, data, tmp_path):
        teacher = self.classifier(tmp_path / "teacher", bert_tokenizer(do_lower_case=False))
        assert "the vocabularies are equal" in self.refused(student_path, data, teacher, tmp_path / "run")

    def test_texts_longer_than_the_model(self, student_path, data, tmp_path):
        with pytest.raises(
            ValueError, match=r"max_length: 500 tokens are more than this inhibidistilbert model can read"
        ):
            run(student_path, data, tmp_path / "run", max_length=500)
        assert not (tmp_path / "run").exists()

    def test_texts_longer_than_the_teacher(self, student_path, data, tmp_path):
        teacher = self.classifier(tmp_path / "teacher", max_position_embeddings=20)
        message = self.refused(student_path, data, teacher, tmp_path / "run")
        assert message == "max_length: 32 tokens are more than this bert model can read (20)"

    def test_hidden_states_of_another_width(self, teacher, data, tmp_path):
        small = saved(bert(BertForSequenceClassification, hidden_size=16), tmp_path / "small")
        with pytest.raises(ConfigError, match="the teacher has 32, the model 16"):
            run(small, data, tmp_path / "run", teacher_source=teacher[0], alpha_hidden=0.5)

    def test_a_model_that_is_not_there(self, data, tmp_path):
        with pytest.raises(ValueError, match="no tokenizer found in"):
            run(str(tmp_path / "none"), data, tmp_path / "run")

    def test_the_home_folder(self, teacher, data, tmp_path, monkeypatch):
        """The teacher's logits were kept in ./~."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        (tmp_path / "teacher").symlink_to(teacher[0])
        asked: dict[str, Path] = {}

        def stop(*arguments):
            asked["cache"] = arguments[3]
            raise StoppedError

        monkeypatch.setattr("inhibitor_transformers.distill.task.finetune.with_teacher_logits", stop)
        with pytest.raises(StoppedError):
            run("~/teacher", data, tmp_path / "run", teacher_source="~/teacher", teacher_cache="~/cache")
        assert asked["cache"] == tmp_path / "cache"

    def test_a_head_for_another_task(self, tmp_path, data):
        three = saved(bert(BertForSequenceClassification, num_labels=3), tmp_path / "three")
        with pytest.raises(ValueError, match="not one of 2 labels, as custom has"):
            run(three, data, tmp_path / "run")

    def test_a_quantized_model(self, student_path, data, tmp_path):
        shutil.copytree(student_path, tmp_path / "quantized")
        file = tmp_path / "quantized" / "config.json"
        method = {"quantization_config": {"quant_method": "inhibitor_int8"}}
        file.write_text(json.dumps(json.loads(file.read_text()) | method))
        with pytest.raises(ConfigError, match="is quantized, which cannot be trained"):
            run(str(tmp_path / "quantized"), data, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("below", ["", "cache"])
    def test_a_cache_in_the_model(self, below, student_path, data, tmp_path):
        with pytest.raises(ConfigError, match=r"(is|lies inside) the model"):
            run(student_path, data, tmp_path / "run", teacher_cache=str(Path(student_path) / below))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda d: {"train": d.train.map(lambda _: {"label": -100})},
                "must be from 0 to 1, got -100 in row 0",
            ),
            (
                lambda d: {"evaluation": {"validation": d.evaluation["validation"].map(lambda _: {"label": 7})}},
                "labels must be from 0 to 1, got 7 in row 0 of validation",
            ),
            (lambda d: {"train": d.train.select([])}, "the split train is empty"),
            (lambda d: {"evaluation": {"test": d.train.select([])}}, "the split test is empty"),
            (lambda d: {"evaluation": {}}, "there is no evaluation split to score by"),
            (lambda d: {"train": d.train.remove_columns("label")}, "the split train has no column label"),
        ],
    )
    def test_hand_made_data(self, change, message, student_path, data, tmp_path):
        with pytest.raises(ConfigError, match=message):
            run(student_path, dataclasses.replace(data, **change(data)), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_batches_that_are_all_dropped(self, student_path, data, tmp_path):
        with pytest.raises(ConfigError, match="dataloader_drop_last leaves nothing to train on: 240 examples"):
            run(
                student_path,
                data,
                tmp_path / "run",
                dataloader_drop_last=True,
                per_device_train_batch_size=500,
            )

    def test_an_existing_folder(self, student_path, data, tmp_path):
        (tmp_path / "kept.txt").write_text("mine")
        with pytest.raises(ConfigError, match="exists and holds no run"):
            run(student_path, data, tmp_path)

    def test_nothing_is_deleted_for_a_run_that_cannot_start(self, student_path, data, teacher_path, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.yaml").write_text("inhibit: finetune")
        with pytest.raises(ValueError, match="would be random"):
            run(student_path, data, tmp_path / "run", teacher_source=teacher_path, overwrite=True)
        assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["run", "run/run.yaml"]


class Spy:
    """Keeps the batches that objective and teacher were called with."""

    def __init__(self, monkeypatch) -> None:
        self.student: list[dict[str, torch.Tensor]] = []
        self.teacher: list[dict[str, torch.Tensor]] = []
        for cls, kept in ((TaskLoss, self.student), (Teacher, self.teacher)):
            self.watch(monkeypatch, cls, kept)

    @staticmethod
    def watch(monkeypatch, cls: type, kept: list) -> None:
        original = cls.__call__

        def watched(self, *args, **kwargs):
            kept.append(dict(next(a for a in args if not isinstance(a, torch.nn.Module))))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(cls, "__call__", watched)


@pytest.fixture(scope="module")
def pair_teacher(tmp_path_factory):
    """A BERT with segment embeddings, and pairs labeled by its own answers, half of them 1."""
    folder = tmp_path_factory.mktemp("pairs")
    rows, model, tokenizer = pairs(96), bert(BertForSequenceClassification), bert_tokenizer()
    inputs = tokenizer([r["text1"] for r in rows], [r["text2"] for r in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        model.classifier.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
        answers = model(**inputs).logits.argmax(-1).tolist()
    rows = [row | {"label": answer} for row, answer in zip(rows, answers, strict=True)]
    return saved(model, folder / "teacher"), custom(folder / "data", rows[:64], rows[64:])


class TestSegments:
    """A teacher of pairs is fed the segment ids that it was trained with: forgetting them ruined published results."""

    def test_they_reach_teacher_and_student(self, pair_teacher, student_path, tmp_path, monkeypatch):
        path, data = pair_teacher
        spy = Spy(monkeypatch)
        run(student_path, data, tmp_path / "run", teacher_source=path, max_steps=2)
        for batches in (spy.student, spy.teacher):
            assert batches
            for batch in batches:
                segments = batch["token_type_ids"]
                ends = (batch["input_ids"] == 3).int().argmax(1)  # the first [SEP]
                columns = torch.arange(segments.shape[1])
                expected = (columns > ends[:, None]) & batch["attention_mask"].bool()
                assert torch.equal(segments.bool(), expected)

    def test_they_reach_the_teacher_of_a_student_whose_tokenizer_has_none(self, pair_teacher, tmp_path, monkeypatch):
        """A student of DistilBERT and a BERT teacher share their tokens, but only BERT's tokenizer gives segments."""
        path, data = pair_teacher
        student = InhibiDistilBertModel.from_teacher(distilbert())
        assert student.config.type_vocab_size == 0
        source = saved(student, tmp_path / "student", distilbert_tokenizer())
        spy = Spy(monkeypatch)
        result = run(source, data, tmp_path / "run", teacher_source=path, max_steps=2)
        assert all(batch["token_type_ids"].any() for batch in spy.teacher)
        assert result.teacher_scores["validation"]["accuracy"] == 1.0

    def test_a_softmax_distilbert_student_takes_no_harm(self, pair_teacher, tmp_path, monkeypatch):
        path, data = pair_teacher
        model = distilbert(DistilBertForSequenceClassification)
        source = saved(model, tmp_path / "student", distilbert_tokenizer())
        spy = Spy(monkeypatch)
        run(source, data, tmp_path / "run", teacher_source=path, max_steps=2)
        assert all(batch["token_type_ids"].any() for batch in spy.teacher)

    def test_the_teacher_is_scored_with_them(self, pair_teacher, student_path, tmp_path):
        path, data = pair_teacher
        result = run(student_path, data, tmp_path / "run", teacher_source=path, max_steps=2)
        assert result.teacher_scores["validation"]["accuracy"] == 1.0
        model = AutoModelForSequenceClassification.from_pretrained(path)
        blind = score_task(model, distilbert_tokenizer(), data, max_length=32)["validation"]["accuracy"]
        assert blind < 1.0


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original, calls = TaskLoss.__call__, 0

    def counted(self, *args):
        nonlocal calls
        calls += 1
        if calls == step:
            raise StoppedError
        return original(self, *args)

    monkeypatch.setattr(TaskLoss, "__call__", counted)


class TestResume:
    def test_in_the_middle_of_an_epoch(self, student_path, teacher, data, tmp_path, monkeypatch):
        settings = {"teacher_source": teacher[0]}
        whole = run(student_path, data, tmp_path / "whole", **settings)
        steps = -(-len(data.train) // 16)
        with monkeypatch.context() as patch:
            stop_at(patch, steps + 4)
            with pytest.raises(StoppedError):
                run(student_path, data, tmp_path / "run", **settings)
        assert not (tmp_path / "run" / "results.json").exists()
        resumed = run(student_path, data, tmp_path / "run", resume=True, **settings)
        assert_same_weights(tmp_path / "run", tmp_path / "whole")
        assert (resumed.scores, resumed.teacher_scores) == (whole.scores, whole.teacher_scores)

    def test_before_the_first_checkpoint(self, student_path, data, tmp_path, monkeypatch):
        run(student_path, data, tmp_path / "whole", num_train_epochs=1)
        with monkeypatch.context() as patch:
            stop_at(patch, 3)
            with pytest.raises(StoppedError):
                run(student_path, data, tmp_path / "run", num_train_epochs=1)
        run(student_path, data, tmp_path / "run", num_train_epochs=1, resume=True)
        assert_same_weights(tmp_path / "run", tmp_path / "whole")

    def test_with_other_settings(self, student_path, data, tmp_path):
        run(student_path, data, tmp_path / "run", num_train_epochs=1)
        with pytest.raises(ConfigError, match=r"other settings than this one \(learning_rate\)"):
            run(student_path, data, tmp_path / "run", num_train_epochs=1, resume=True, learning_rate=1e-5)

    def test_with_other_data(self, student_path, tmp_path):
        """The number of examples was not part of the settings: other data could slip into a resumed run."""
        folder = tmp_path / "data"
        custom(folder, reviews(100), reviews(40, seed=1))
        fewer = load_task("custom", folder, max_train_examples=60)
        run(student_path, fewer, tmp_path / "run", num_train_epochs=1)
        with pytest.raises(ConfigError, match=r"other settings than this one \(data\)"):
            run(student_path, load_task("custom", folder), tmp_path / "run", num_train_epochs=1, resume=True)

    def test_with_other_settings_that_are_a_mapping(self, student_path, data, tmp_path):
        """Only numbers and texts were compared."""
        first = {"max_steps": 2, "lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 1}}
        run(student_path, data, tmp_path / "run", **first)
        with pytest.raises(ConfigError, match=r"other settings than this one \(lr_scheduler_kwargs\)"):
            run(student_path, data, tmp_path / "run", resume=True, **first | {"lr_scheduler_kwargs": {"power": 3}})

    def test_with_other_names_of_the_classes(self, student_path, tmp_path):
        labels = [row | {"label": "ab"[row["label"]]} for row in reviews(60)]
        run(student_path, custom(tmp_path / "data", labels, labels[:20]), tmp_path / "run", max_steps=1)
        renamed = [row | {"label": "xy"["ab".index(row["label"])]} for row in labels]
        with pytest.raises(ConfigError, match=r"other settings than this one \(data\)"):
            run(
                student_path,
                custom(tmp_path / "data", renamed, renamed[:20]),
                tmp_path / "run",
                max_steps=1,
                resume=True,
            )

    @pytest.mark.parametrize(
        ("role", "named"),
        [
            ("source", "model_weights"),
            ("teacher_source", "teacher_weights"),
            ("teacher_base", "teacher_base_weights"),
        ],
    )
    def test_with_other_weights_under_the_same_name(
        self, role, named, student_path, teacher, teacher_path, data, tmp_path
    ):
        sources = {"source": student_path, "teacher_source": teacher[0], "teacher_base": teacher_path}
        copy = tmp_path / "copy"
        shutil.copytree(sources[role], copy)
        sources[role] = str(copy)
        run(**sources, data=data, output=tmp_path / "run", max_steps=1)
        file = copy / "model.safetensors"
        weights = load_file(file)
        name = next(name for name in weights if name.endswith("word_embeddings.weight"))
        save_file(weights | {name: weights[name] * 1.001}, file, metadata={"format": "pt"})
        said: list[str] = []
        with pytest.raises(ConfigError, match=rf"other settings than this one \(.*\b{named}\b.*\)"):
            run(**sources, data=data, output=tmp_path / "run", max_steps=1, resume=True, log=said.append)
        assert not said  # no teacher was scored

    def test_a_finished_run_is_not_trained_again(self, student_path, data, tmp_path):
        """Without its checkpoints it was, over the finished model."""
        first = run(student_path, data, tmp_path / "run", max_steps=1)
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        before, said = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns, list[str]()
        assert run(student_path, data, tmp_path / "run", max_steps=1, resume=True, log=said.append) == first
        assert said == [f"{tmp_path / 'run'} is finished already: nothing is left to resume"]
        assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
        assert not (tmp_path / "run" / "checkpoints").exists()

    def test_other_kinds_of_settings_are_recorded(self, student_path, data, tmp_path):
        run(student_path, data, tmp_path / "run", max_steps=2, lr_scheduler_type="cosine")
        record = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
        assert record["lr_scheduler_type"] == "cosine"

    def test_checkpoints_of_another_run_are_never_picked_up(self, student_path, data, tmp_path):
        """Two runs that named one output_dir: the second went on from the first one's checkpoint, and said nothing."""
        for name in ("a", "b"):
            arguments = FinetuneArguments(output_dir=str(tmp_path / "shared"), **(FAST | {"max_steps": 4}))
            said: list[str] = []
            finetune(student_path, data, arguments, tmp_path / name, log=said.append)
        assert not (tmp_path / "shared").exists()
        assert_same_weights(tmp_path / "a", tmp_path / "b")


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


@pytest.mark.parametrize("damaged", ["optimizer.pt", "model.safetensors"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(damaged, student_path, data, tmp_path):
    """Its settings keep the checkpoints of all epochs."""
    kept = {"save_total_limit": None, "load_best_model_at_end": False}
    run(student_path, data, tmp_path / "whole", **kept)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    first, last = (tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" for step in (15, 30))
    (tmp_path / "run" / "results.json").unlink()
    (last / damaged).write_bytes((last / damaged).read_bytes()[:100])
    said: list[str] = []
    run(student_path, data, tmp_path / "run", resume=True, log=said.append, **kept)
    assert f"{last} is passed over: {damaged} is cut off" in " ".join(said)
    assert f"resuming from {first.name}" in said
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_without_a_whole_checkpoint_the_training_starts_anew(student_path, data, tmp_path):
    run(student_path, data, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    for state in (tmp_path / "run" / "checkpoints").glob("*/trainer_state.json"):
        state.write_text("{")
    said: list[str] = []
    run(student_path, data, tmp_path / "run", resume=True, log=said.append)
    assert "no checkpoint is whole: the training starts anew" in said
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
