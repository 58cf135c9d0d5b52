"""Runs that begin with the student of an earlier run."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.distill import ConfigError, Distillation, DistillConfig
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.chains import CALIBRATE, RUNTIME, distill, settings, trained
from tests.distill.tiny import assert_same_weights, weights_of


def test_a_later_run_goes_on_where_an_earlier_one_ended(chain, tmp_path):
    """Two runs, one after the other, are the chain of their stages to the bit."""
    distill(chain, tmp_path / "whole")
    first, second = chain["stages"][:2], chain["stages"][2:]
    distill(chain | {"stages": first}, tmp_path / "first")
    distill(chain | {"stages": second, "init_from": str(tmp_path / "first")}, tmp_path / "second")
    assert_same_weights(tmp_path / "second", tmp_path / "whole")


def test_an_init_from_without_a_head_takes_the_teacher_s(chain, masked_lm_path, tmp_path):
    distill(chain | {"teacher": masked_lm_path, "stages": chain["stages"][:1]}, tmp_path / "first")
    config = chain | {"teacher": masked_lm_path, "stages": [trained("masked_lm")], "init_from": str(tmp_path / "first")}
    made = Distillation(DistillConfig(**config), tmp_path / "second", runtime=RUNTIME, log=lambda _: None)
    seen = {}
    made.run(lambda name, student: seen.setdefault(name, {k: v.clone() for k, v in student.state_dict().items()}))
    began, teacher, first = seen["start"], weights_of(masked_lm_path), weights_of(tmp_path / "first")
    assert torch.equal(began["vocab_transform.weight"], teacher["cls.predictions.transform.dense.weight"])
    assert all(torch.equal(began[f"distilbert.{name}"], tensor) for name, tensor in first.items())
    again = config | {"init_from": str(tmp_path / "second")}
    final = Distillation(DistillConfig(**again), tmp_path / "third", runtime=RUNTIME, log=lambda _: None)
    final.run(lambda name, student: seen.setdefault("again", {k: v.clone() for k, v in student.state_dict().items()}))
    assert all(torch.equal(seen["again"][name], tensor) for name, tensor in weights_of(tmp_path / "second").items())


def test_an_init_from_brings_its_own_settings(teacher_path, text_path, tmp_path):
    config = settings(teacher_path, text_path, [CALIBRATE], student={"inhibitor_signed": False}, segments="fold")
    distill(config, tmp_path / "first")
    distill(settings(teacher_path, text_path, [CALIBRATE], init_from=str(tmp_path / "first")), tmp_path / "second")
    student = InhibiDistilBertModel.from_pretrained(tmp_path / "second").config
    assert (student.inhibitor_signed, student.type_vocab_size) == (False, 0)


@pytest.mark.parametrize("within", [".", "stages/1-calibrate/student"])
def test_an_init_from_is_not_overwritten_by_its_own_run(within, teacher_path, text_path, tmp_path):
    config = settings(teacher_path, text_path, [CALIBRATE])
    distill(config, tmp_path / "run")
    before = weights_of(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"(is|contains) the init_from"):
        distill(config | {"init_from": str(tmp_path / "run" / within)}, tmp_path / "run", overwrite=True)
    assert weights_of(tmp_path / "run").keys() == before.keys()


@pytest.mark.parametrize(
    ("source", "others", "said"),
    [
        ("first", {"layers": [0]}, "has n_layers 2, a student of this teacher and layers 1"),
        ("first", {"student": {"inhibitor_signed": False}}, "student cannot be set together with init_from"),
        ("first", {"segments": "fold", "student": {"dropout": 0.0}}, "student and segments cannot be set"),
        ("teacher", {}, "is a BertModel, not an InhibiDistilBERT student"),
        ("nowhere", {}, "cannot load"),
    ],
)
def test_an_init_from_that_does_not_fit(source, others, said, teacher_path, text_path, tmp_path):
    folders = {"first": tmp_path / "first", "teacher": teacher_path, "nowhere": tmp_path / "nowhere"}
    distill(settings(teacher_path, text_path, [CALIBRATE]), tmp_path / "first")
    config = settings(teacher_path, text_path, [CALIBRATE], init_from=str(folders[source])) | others
    with pytest.raises(ValueError, match=said):
        distill(config, tmp_path / "second")
    assert not (tmp_path / "second").exists()
