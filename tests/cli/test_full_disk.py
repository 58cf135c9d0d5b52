"""Where the disk has no room, every command says so in one line, and leaves what was there as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.distill.fine_tuning import write
from tests.distill.tiny import reviews
from tests.full_disk import no_file_above

WEIGHTS = 60_000  # bytes; no file of the tiny models' weights is so small


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def full(refused):
    """Runs a command that must find the disk full at `size` bytes."""

    def run(*arguments: str | Path, size: int = WEIGHTS) -> str:
        with no_file_above(size):
            message = refused(*arguments)
        assert message.startswith("error: cannot write ")
        assert "File too large" in message or "is there room on the disk?" in message
        return message

    return run


def test_convert(full, teacher, texts, tmp_path):
    full("convert", teacher, tmp_path / "a", "--text", texts, "--device", "cpu")
    full("convert", teacher, tmp_path / "b", "--softmax")
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".safetensors" or ".half" in path.name]


def test_distill_leaves_no_half_a_checkpoint_and_can_go_on(full, inhibit, teacher, texts, tmp_path):
    stage = "{lengths: [16], tokens_per_step: 64, max_steps: 2, save_steps: 1, disable_tqdm: true}"
    (tmp_path / "run.yaml").write_text(f"teacher: {teacher}\ntext: {texts}\nstages: [{{align_hidden: {stage}}}]\n")
    command = ("distill", tmp_path / "run.yaml", "-o", tmp_path / "run", "--device", "cpu")
    message = full(*command)
    assert "checkpoint-1" in message
    assert not list((tmp_path / "run").rglob("checkpoint-*"))
    assert inhibit(*command, "--resume").status == 0


def test_the_optimizer_of_a_checkpoint(full, student, tmp_path):
    """Twice as large as the weights: they fit, and it does not."""
    write(tmp_path / "data", "train", reviews(16))
    write(tmp_path / "data", "validation", reviews(8, seed=1))
    weights = (Path(student) / "model.safetensors").stat().st_size + 10_000
    output = ("-o", tmp_path / "run", "--set", "disable_tqdm=true")
    message = full("finetune", student, "--task", "custom", "--data", tmp_path / "data", *output, size=weights)
    assert "checkpoint-1" in message
    assert not list((tmp_path / "run").rglob("checkpoint-*"))


@pytest.mark.parametrize("command", ["quantize", "torch", "onnxruntime"])
def test_an_older_result_stays(command, full, inhibit, student, texts, tmp_path):
    if command == "onnxruntime":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    arguments = ["quantize", student, tmp_path / "out", "--text", texts, "--max-texts", "8"]
    if command != "quantize":
        arguments = ["export", student, tmp_path / "out", "--runtime", command]
    assert inhibit(*arguments).status == 0
    before = contents(tmp_path / "out")
    full(*arguments, "--overwrite", size=WEIGHTS // 3)
    assert contents(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


OLDER = json.dumps({"title": "older", "rows": {}})


def test_scores(full, student, teacher, texts, tmp_path):
    (tmp_path / "scores.json").write_text(OLDER)
    agreement = ("--task", "agreement", "--teacher", teacher, "--text", texts, "--lengths", "16", "--device", "cpu")
    full("evaluate", student, *agreement, "-o", tmp_path / "scores.json", "--overwrite", size=20)
    assert contents(tmp_path) == {"scores.json": OLDER.encode()}
