"""Which checkpoints are gone on with: the newest that is whole, and whose best is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from inhibitor_transformers.distill.training.checkpoints import (
    best_checkpoint,
    had_ended,
    last_whole_checkpoint,
    model_fault,
)
from tests.models.tiny import tiny_student

FILES = ["model.safetensors", "config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Path:
    """A checkpoint as Trainer writes it."""
    folder = tmp_path_factory.mktemp("pattern")
    tiny_student().save_pretrained(folder)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"step": torch.ones(100)}, folder / name)
    state(folder)
    return folder


def state(folder: Path, best: int | None = None, *, ended: bool = False) -> None:
    control = {"args": {"should_training_stop": ended}, "attributes": {}}
    record = {"global_step": 1, "best_global_step": best, "stateful_callbacks": {"TrainerControl": control}}
    (folder / "trainer_state.json").write_text(json.dumps(record))


@pytest.fixture
def checkpoints(pattern, tmp_path) -> Path:
    for step in (9, 10, 2):
        shutil.copytree(pattern, tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-last").mkdir()
    return tmp_path


def test_the_newest_by_number(checkpoints):
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-10"


def test_none(tmp_path):
    assert last_whole_checkpoint(tmp_path / "none") is None
    assert last_whole_checkpoint(tmp_path) is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [None, 0, 0.5])
def test_one_with_a_damaged_file_is_passed_over_with_the_reason(name, kept, checkpoints):
    file = checkpoints / "checkpoint-10" / name
    content = file.read_bytes()
    file.unlink()
    if kept is not None:
        file.write_bytes(content[: int(kept * len(content))])
    said: list[str] = []
    assert last_whole_checkpoint(checkpoints, said.append) == checkpoints / "checkpoint-9"
    (line,) = said
    assert line.startswith(f"{checkpoints / 'checkpoint-10'} is passed over: {name} is ")


@pytest.mark.parametrize("content", ["[]", "null", "{"])
def test_a_state_that_is_none(content, checkpoints):
    (checkpoints / "checkpoint-10" / "trainer_state.json").write_text(content)
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-9"


def test_modules_of_the_loss_are_looked_at_too(checkpoints):
    (checkpoints / "checkpoint-10" / "loss.safetensors").write_bytes(b"")
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-9"


def test_one_whose_best_is_damaged_is_passed_over(checkpoints):
    state(checkpoints / "checkpoint-10", best=9)
    state(checkpoints / "checkpoint-9", best=9)
    state(checkpoints / "checkpoint-2", best=2)
    assert best_checkpoint(checkpoints / "checkpoint-10") == checkpoints / "checkpoint-9"
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-10"
    (checkpoints / "checkpoint-9" / "optimizer.pt").unlink()  # its weights are all that is wanted
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-10"
    (checkpoints / "checkpoint-9" / "model.safetensors").write_bytes(b"half")
    said: list[str] = []
    assert last_whole_checkpoint(checkpoints, said.append) == checkpoints / "checkpoint-2"
    assert "the best until then, checkpoint-9, is damaged (model.safetensors is cut off" in said[0]


def test_whether_training_had_ended(checkpoints):
    assert not had_ended(checkpoints / "checkpoint-9")
    state(checkpoints / "checkpoint-9", ended=True)
    assert had_ended(checkpoints / "checkpoint-9")


def test_shards(tmp_path):
    tiny_student().save_pretrained(tmp_path, max_shard_size="5KB")
    assert model_fault(tmp_path) is None
    shard = next(tmp_path.glob("model-*.safetensors"))
    shard.unlink()
    assert model_fault(tmp_path) == f"model.safetensors.index.json names {shard.name}, which is missing"
