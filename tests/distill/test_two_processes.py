"""Two data-parallel processes (torchrun, gloo) end where one process with accumulated gradients ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertForMaskedLM

from inhibitor_transformers.distill.training.arguments import require_counted_together
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill import two_processes
from tests.distill.fine_tuning import custom
from tests.distill.fine_tuning import run as finetune_once
from tests.distill.tiny import bert, reviews, saved, sentences, text_file

ROOT = Path(__file__).parents[2]
STUDENTS = [f"stages/{i}-{name}/student" for i, name in enumerate(two_processes.STAGES, 1)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """What one process left behind, and what two did."""
    base = tmp_path_factory.mktemp("processes")
    sources, one, two = base / "sources", base / "one", base / "two"
    for folder in (sources, one, two):
        folder.mkdir()
    saved(bert(BertForMaskedLM), sources / "masked_lm")
    student = InhibiDistilBertModel.from_teacher(bert(), seq_classif_dropout=0.0)  # processes draw their own
    saved(student, sources / "student")
    text_file(sources, sentences(300))
    data = custom(sources / "task", reviews(240), reviews(21, seed=1))
    finetune_once(saved(bert(), sources / "bert"), data, sources / "classifier")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [two_processes.__file__, str(sources), str(two)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as both:
        two_processes.run_all(sources, one, accumulation=2, said=[])
        output, _ = both.communicate(timeout=280)
    assert both.returncode == 0, output
    return one, two


def assert_close(one: Path, two: Path) -> None:
    ours, theirs = load_file(one), load_file(two)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def losses(log: Path) -> list[dict[str, float]]:
    """The loss and its terms at every log."""
    logs = [entry for entry in json.loads(log.read_text(encoding="utf-8")) if "loss" in entry]
    return [{key: value for key, value in entry.items() if key.startswith("loss")} for entry in logs]


def assert_same_losses(one: Path, two: Path, logs: int) -> None:
    ours, theirs = losses(one), losses(two)
    assert len(ours) == len(theirs) == logs
    for a, b in zip(ours, theirs, strict=True):
        assert len(a) > 1
        assert b == pytest.approx(a, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("student", [*STUDENTS, "."])
@pytest.mark.parametrize("run", ["distilled", "resumed"])
def test_every_stage_leaves_the_same_student(run, student, folders):
    one, two = folders
    assert_close(one / "distilled" / student / "model.safetensors", two / run / student / "model.safetensors")


@pytest.mark.slow
def test_a_teacher_cache_is_shared(folders):
    one, two = (folder / "cached" for folder in folders)
    assert_close(one / "model.safetensors", two / "model.safetensors")
    for stage in STUDENTS[1:3]:
        log = Path(stage).parent / "log.json"
        assert_same_losses(one / log, two / log, two_processes.STEPS // 2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STUDENTS[1:])
@pytest.mark.parametrize("run", ["distilled", "resumed"])
def test_every_stage_logs_the_losses_of_the_whole_batch(run, stage, folders):
    one, two = folders
    log = Path(stage).parent / "log.json"
    assert_same_losses(one / "distilled" / log, two / run / log, two_processes.STEPS // 2)


@pytest.mark.slow
def test_projections_are_trained_together(folders):
    one, two = (folder / "projections" for folder in folders)
    assert_same_losses(one / "log.json", two / "log.json", two_processes.STEPS)
    assert_close(one / "weights.safetensors", two / "weights.safetensors")


@pytest.mark.slow
def test_fine_tuning_with_a_teacher(folders):
    one, two = (folder / "finetuned" for folder in folders)
    for model in ("checkpoints/alignment/student/model.safetensors", "model.safetensors"):
        assert_close(one / model, two / model)
    records = [json.loads((folder / "results.json").read_text()) for folder in (one, two)]
    assert records[0]["scores"] == records[1]["scores"]
    assert records[0]["aligned_scores"] == records[1]["aligned_scores"] is not None
    states = [next(folder.glob("checkpoints/checkpoint-8/trainer_state.json")) for folder in (one, two)]
    logs = [json.loads(state.read_text())["log_history"] for state in states]
    terms = [[[e["loss"], e["loss/task"], e["loss/soft_targets"]] for e in log if "loss" in e] for log in logs]
    assert len(terms[0]) == 4
    for a, b in zip(*terms, strict=True):
        assert b == pytest.approx(a, rel=1e-5)


@pytest.mark.slow
def test_the_main_process_speaks_for_both(folders):
    _, two = folders
    assert "stage 4 of 4: masked_lm" in (two / "said-main-True.txt").read_text()
    assert (two / "said-main-False.txt").read_text() == ""


@pytest.mark.slow
def test_a_loss_that_one_process_loses_stops_both_and_keeps_the_weights(folders):
    folder = folders[1] / "nan"
    messages = {name: (folder / f"main-{name}.txt").read_text() for name in (True, False)}
    assert messages[True] == messages[False]
    assert messages[True].startswith("loss is not finite at step 1: square; the weights before that step are in ")
    kept = AutoModel.from_pretrained(folder / "stopped-before-step-1")
    assert all(p.isfinite().all() for p in kept.parameters())


class Elsewhere:
    """Training arguments as on another machine."""

    def __init__(self, **values: object) -> None:
        alone = {
            "n_gpu": 1,
            "world_size": 1,
            "average_tokens_across_devices": True,
            "train_sampling_strategy": "random",
        }
        vars(self).update(alone | values)


@pytest.mark.parametrize(
    ("arguments", "buckets", "message"),
    [
        ({"n_gpu": 4}, 1, "one process for 4 GPUs: start one for each, with torchrun --nproc_per_node 4"),
        ({"world_size": 2, "average_tokens_across_devices": False}, 1, "average_tokens_across_devices must be true"),
        ({"world_size": 2}, 2, "length_buckets must be 1 with several processes"),
        ({"world_size": 2, "train_sampling_strategy": "group_by_length"}, 1, "different orders of group_by_length"),
    ],
)
def test_batches_that_would_not_be_counted_together(arguments, buckets, message):
    require_counted_together(Elsewhere(), 2)
    with pytest.raises(ValueError, match=message):
        require_counted_together(Elsewhere(**arguments), buckets)
