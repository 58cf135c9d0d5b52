"""What is refused before a fine-tuning begins, leaving nothing behind."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaForSequenceClassification,
)

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.tasks import TaskData
from tests.distill.fine_tuning import StoppedError, custom, run
from tests.distill.tiny import bert, bert_tokenizer, reviews, roberta, roberta_tokenizer, saved


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
        with pytest.raises(ValueError, match=r"1 example\(s\) are too few to hold some out"):
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

    def test_layers_that_are_not_known_cannot_be_aligned(self, teacher, data, tmp_path):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        config = ElectraConfig(vocab_size=len(bert_tokenizer()), max_position_embeddings=64, embedding_size=32, **sizes)
        student = saved(ElectraForSequenceClassification(config), tmp_path / "electra")
        message = self.refused(student, data, teacher[0], tmp_path / "run", alignment_epochs=1)
        assert "the layers of a 'electra' model are not known here" in message
        run(student, data, tmp_path / "plain", teacher_source=teacher[0], max_steps=1)

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

        monkeypatch.setattr("inhibitor_transformers.distill.task.finetune.add_teacher_logits", stop)
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
