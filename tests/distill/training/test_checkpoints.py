"""Which checkpoints are gone on with: the newest that is whole, and whose best is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

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


INDEX = "model.safetensors.index.json"


def in_shards(folder: Path, size: str = "5KB") -> list[Path]:
    """A student in several files and their index; returns the files."""
    tiny_student().save_pretrained(folder, max_shard_size=size)
    return sorted(folder.glob("model-*.safetensors"))


def test_a_missing_shard(tmp_path):
    shard = in_shards(tmp_path)[1]
    assert model_fault(tmp_path) is None
    shard.unlink()
    assert model_fault(tmp_path) == f"{INDEX} names {shard.name}, which is missing"


def test_a_shard_from_another_save(tmp_path):
    """Its names are right, and so is each file by itself; loading would leave what is in none of them random."""
    shard = in_shards(tmp_path / "ours")[-1]
    other = in_shards(tmp_path / "theirs", "4KB")[-1]
    shutil.copy(other, shard)
    assert model_fault(tmp_path / "ours") == (
        f"{INDEX} names other tensors than {shard.name} holds: they are from different saves"
    )


@pytest.mark.parametrize("tensors", ["too few", "too many"])
def test_a_shard_that_holds_other_tensors_than_the_index_says(tensors, tmp_path):
    shard = in_shards(tmp_path)[-1]
    held = load_file(shard)
    name = next(iter(held))
    save_file(
        {k: v for k, v in held.items() if k != name} if tensors == "too few" else held | {"x": held[name] + 1}, shard
    )
    assert model_fault(tmp_path) == (
        f"{INDEX} names other tensors than {shard.name} holds: they are from different saves"
    )


def test_a_mixed_checkpoint_is_passed_over(checkpoints, tmp_path_factory):
    newest = checkpoints / "checkpoint-10"
    (newest / "model.safetensors").unlink()
    shards = in_shards(newest)
    assert last_whole_checkpoint(checkpoints) == newest
    shards[0].write_bytes(shards[1].read_bytes())
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-9"


def test_a_damaged_file_under_another_name_that_the_index_gives(tmp_path):
    """Not one of the files that are looked at by their suffix."""
    shard = in_shards(tmp_path)[0]
    index = (tmp_path / INDEX).read_text().replace(shard.name, "weights.bin")
    (tmp_path / INDEX).write_text(index)
    shard.rename(tmp_path / "weights.bin").write_bytes(b"half")
    assert model_fault(tmp_path) == f"{INDEX} names weights.bin, which is cut off or no safetensors file"


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}'])
def test_an_index_of_nothing(content, tmp_path):
    in_shards(tmp_path)
    (tmp_path / INDEX).write_text(content)
    assert model_fault(tmp_path) == f"{INDEX} holds no weight_map"
