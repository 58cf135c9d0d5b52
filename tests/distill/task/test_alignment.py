"""Hidden states are aligned with those of a task's teacher before any label is seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, set_seed

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.distill.task import FinetuneArguments, FinetuneResult
from inhibitor_transformers.distill.task.model import load_for_task
from inhibitor_transformers.distill.training.trainer import DistillationTrainer
from inhibitor_transformers.models import InhibiDistilBertModel, add_task_vector
from tests.distill.fine_tuning import FAST, StoppedError, run
from tests.distill.tiny import assert_same_weights, saved, weights_of

ALIGNED = {"alignment_epochs": 2, "alignment_learning_rate": 1e-3, "num_train_epochs": 1}


@pytest.fixture(scope="module")
def aligned(tmp_path_factory, student_path, teacher_path, teacher, data) -> tuple[Path, FinetuneResult, list[str]]:
    """(folder, result, what was said) of a student whose hidden states were aligned with its teacher's first."""
    folder, said = tmp_path_factory.mktemp("aligned") / "student", []
    given = ALIGNED | {"teacher_source": teacher[0], "teacher_base": teacher_path, "log": said.append}
    return folder, run(student_path, data, folder, **given), said


def stop_at_step(step: int, patch: pytest.MonkeyPatch) -> None:
    """Interrupt before so many steps, whatever they train."""
    original, calls = DistillationTrainer.training_step, 0

    def counted(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == step:
            raise StoppedError
        return original(self, *args, **kwargs)

    patch.setattr(DistillationTrainer, "training_step", counted)


def test_the_hidden_states_are_nearer_to_the_teacher_s(aligned, teacher, data):
    log = json.loads(next((aligned[0] / "checkpoints/alignment").glob("*/trainer_state.json")).read_text())
    first, *_, last = [entry for entry in log["log_history"] if "loss" in entry]
    assert last["loss"] < first["loss"]
    assert {"loss/hidden/layer_0", "loss/cls/layer_0"} <= last.keys()


def test_no_label_is_read(aligned, student_path, teacher_path, teacher, data, tmp_path):
    """With the labels turned round, the aligned model is bit for bit the same."""
    turned = data.train.map(lambda row: {data.task.label_column: 1 - row[data.task.label_column]})
    given = ALIGNED | {"teacher_source": teacher[0], "teacher_base": teacher_path}
    run(student_path, replace(data, train=turned), tmp_path / "turned", **given)
    ours, theirs = (folder / "checkpoints/alignment/student" for folder in (aligned[0], tmp_path / "turned"))
    assert_same_weights(ours, theirs)


def test_embeddings_and_head_stay_and_all_else_moves(aligned, student_path, teacher_path, teacher, data):
    set_seed(FinetuneArguments(output_dir="unused", **FAST).seed)  # draws the head, which BERT's could not replace
    started = load_for_task(student_path, data.task)
    tuned = AutoModelForSequenceClassification.from_pretrained(teacher[0])
    add_task_vector(started, tuned, AutoModel.from_pretrained(teacher_path))
    before, after = started.state_dict(), weights_of(aligned[0] / "checkpoints/alignment/student")
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) != ("transformer.layer" in name), name


def test_it_is_scored_before_the_labels(aligned):
    folder, result, said = aligned
    assert result.aligned_scores is not None
    assert result.aligned_scores.keys() == result.scores.keys()
    assert json.loads((folder / "results.json").read_text())["aligned_scores"] == result.aligned_scores
    assert any(line.startswith("aligned with the teacher on custom validation: ") for line in said)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("step", [3, 20, 33])  # in its first epoch; in its second; while labels are learned
def test_an_interrupted_run_resumes_exactly(
    step, aligned, student_path, teacher_path, teacher, data, tmp_path, monkeypatch
):
    given = ALIGNED | {"teacher_source": teacher[0], "teacher_base": teacher_path}
    with monkeypatch.context() as patch:
        stop_at_step(step, patch)
        with pytest.raises(StoppedError):
            run(student_path, data, tmp_path / "run", **given)
    result = run(student_path, data, tmp_path / "run", resume=True, **given)
    assert_same_weights(tmp_path / "run", aligned[0])
    assert result.scores == aligned[1].scores
    assert result.aligned_scores == aligned[1].aligned_scores


@pytest.mark.parametrize("is_trained", [True, False])
@pytest.mark.parametrize(
    ("damaged", "line"),
    [("scores.json", "aligned before"), ("student/model.safetensors", "student is damaged (model.safetensors is cut")],
)
def test_what_is_damaged_is_made_again(
    damaged, line, is_trained, aligned, student_path, teacher_path, teacher, data, tmp_path
):
    """The student, if labels are not learned yet and it is wanted, from the alignment's last checkpoint."""
    shutil.copytree(aligned[0], tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    checkpoints = tmp_path / "run" / "checkpoints"
    if not is_trained:
        for checkpoint in checkpoints.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    (checkpoints / "alignment" / damaged).write_bytes(b"{")
    given, said = ALIGNED | {"teacher_source": teacher[0], "teacher_base": teacher_path}, []
    result = run(student_path, data, tmp_path / "run", resume=True, log=said.append, **given)
    assert any(line in said_line for said_line in said) != (is_trained and damaged != "scores.json")
    assert_same_weights(tmp_path / "run", aligned[0])
    assert result.aligned_scores == aligned[1].aligned_scores


def test_a_teacher_of_another_depth(student_path, data, tmp_path, teacher):
    shallow = InhibiDistilBertModel.from_teacher(AutoModel.from_pretrained(teacher[0]), layers=[0])
    source = saved(shallow, tmp_path / "shallow")
    with pytest.raises(ConfigError, match="aligns layer by layer; the teacher has 2 layers, the model 1"):
        run(source, data, tmp_path / "run", teacher_source=teacher[0], alignment_epochs=1)
    assert not (tmp_path / "run").exists()


def test_without_a_teacher(student_path, data, tmp_path):
    with pytest.raises(ConfigError, match="alignment_epochs needs a teacher to align with"):
        run(student_path, data, tmp_path / "run", alignment_epochs=1)
    assert not (tmp_path / "run").exists()


def test_any_model_that_can_be_fine_tuned_can_be_aligned(teacher_path, teacher, data, tmp_path):
    """A BERT: its layers have another name."""
    given = ALIGNED | {"teacher_source": teacher[0], "alignment_learning_rate": 1e-4}
    run(teacher_path, data, tmp_path / "run", **given)
    before, after = weights_of(teacher_path), weights_of(tmp_path / "run/checkpoints/alignment/student")
    moved = {
        name
        for name, tensor in after.items()
        if name.removeprefix("bert.") in before and not torch.equal(tensor, before[name.removeprefix("bert.")])
    }
    assert moved
    assert all(name.startswith("bert.encoder.") for name in moved)


@pytest.mark.parametrize(
    "setting", [{"alignment_epochs": -1}, {"alignment_learning_rate": 0}, {"alignment_cls_weight": -1}]
)
def test_settings_that_make_no_sense(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        FinetuneArguments(output_dir="unused", **(FAST | setting))
