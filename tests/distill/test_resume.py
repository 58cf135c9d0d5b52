"""An interrupted run leaves something to go on with, and ends with the very weights of an uninterrupted one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inhibitor_transformers.distill import ConfigError, Distillation, DistillConfig
from inhibitor_transformers.distill.stages.align_attention import AttentionOutputLoss
from inhibitor_transformers.distill.stages.align_hidden import HiddenStateLoss
from inhibitor_transformers.distill.stages.masked_lm import MaskedLMLoss
from tests.distill.chains import CALIBRATE, RUNTIME, distill, settings, trained
from tests.distill.tiny import assert_same_weights


class StoppedError(Exception):
    pass


def interrupt(monkeypatch: pytest.MonkeyPatch, criterion: type, step: int) -> None:
    """Let training stop in the middle of step `step`, counted from the first call after this."""
    method = "forward" if issubclass(criterion, torch.nn.Module) else "__call__"
    original, calls = getattr(criterion, method), 0

    def counted(self, *args):
        nonlocal calls
        calls += 1
        if calls == step:
            raise StoppedError
        return original(self, *args)

    monkeypatch.setattr(criterion, method, counted)


STAGES = {
    "align_attention": (AttentionOutputLoss, {}),
    "align_hidden": (HiddenStateLoss, {}),
    "masked_lm": (MaskedLMLoss, {"learning_rate": 1e-3}),
}


@pytest.fixture(scope="module", params=STAGES)
def whole(request, masked_lm_path, text_path, tmp_path_factory):
    """(stage, settings, folder of an uninterrupted run)."""
    _, extra = STAGES[request.param]
    config = settings(masked_lm_path, text_path, [CALIBRATE, trained(request.param, **extra)])
    folder = tmp_path_factory.mktemp("whole") / "run"
    distill(config, folder)
    return request.param, config, folder


def unfinished(whole: Path, run: Path, name: str) -> Path:
    """A copy of a finished run as it was before its second stage ended; returns the folder of that stage."""
    shutil.copytree(whole, run)
    (run / "model.safetensors").unlink()
    stage = run / "stages" / f"2-{name}"
    shutil.rmtree(stage / "student")
    return stage


@pytest.mark.sampled(3)
class TestResume:
    """What an interrupted run leaves behind is gone on with, to the very same weights."""

    def test_in_the_middle_of_a_stage(self, whole, tmp_path, monkeypatch):
        name, config, folder = whole
        with monkeypatch.context() as patch:
            interrupt(patch, STAGES[name][0], 4)
            with pytest.raises(StoppedError):
                distill(config, tmp_path / "run")
        stage = tmp_path / "run" / "stages" / f"2-{name}"
        assert {p.name for p in stage.iterdir()} == {"checkpoint-2"}
        assert not (tmp_path / "run" / "model.safetensors").exists()
        torch.manual_seed(99)  # whatever the process drew before
        said = distill(config, tmp_path / "run", resume=True)
        assert "resuming after stage 1 of 2" in said
        assert "resuming from checkpoint-2" in said
        assert_same_weights(tmp_path / "run", folder)
        logs = [json.loads((f / "stages" / f"2-{name}" / "log.json").read_text()) for f in (tmp_path / "run", folder)]
        terms = [[{k: v for k, v in e.items() if k.startswith("loss")} for e in log if "loss" in e] for log in logs]
        assert terms[0] == terms[1]

    def test_before_the_first_checkpoint(self, whole, tmp_path, monkeypatch):
        name, config, folder = whole
        with monkeypatch.context() as patch:
            interrupt(patch, STAGES[name][0], 1)
            with pytest.raises(StoppedError):
                distill(config, tmp_path / "run")
        distill(config, tmp_path / "run", resume=True)
        assert_same_weights(tmp_path / "run", folder)

    def test_between_stages(self, whole, tmp_path):
        _, config, folder = whole

        def stop(name, student):
            if name == "calibrate":
                raise StoppedError

        with pytest.raises(StoppedError):
            Distillation(DistillConfig(**config), tmp_path / "run", runtime=RUNTIME, log=lambda _: None).run(stop)
        seen = []
        resumed = Distillation(
            DistillConfig(**config), tmp_path / "run", runtime=RUNTIME, resume=True, log=lambda _: None
        )
        resumed.run(lambda name, student: seen.append(name))
        assert seen == [*config["stages"][1]]
        assert_same_weights(tmp_path / "run", folder)

    def test_a_half_written_checkpoint_is_passed_over(self, whole, tmp_path, monkeypatch):
        name, config, folder = whole
        with monkeypatch.context() as patch:
            interrupt(patch, STAGES[name][0], 6)
            with pytest.raises(StoppedError):
                distill(config, tmp_path / "run")
        stage = tmp_path / "run" / "stages" / f"2-{name}"
        assert {p.name for p in stage.iterdir()} == {"checkpoint-2", "checkpoint-4"}
        (stage / "checkpoint-4" / "trainer_state.json").write_text('{"best_global_step": nu')
        shutil.copytree(stage / "checkpoint-2", stage / "checkpoint-5")
        (stage / "checkpoint-5" / "trainer_state.json").unlink()
        said = distill(config, tmp_path / "run", resume=True)
        assert "resuming from checkpoint-2" in said
        assert_same_weights(tmp_path / "run", folder)

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "rng_state.pth"])
    def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(self, file, whole, tmp_path):
        name, config, folder = whole
        checkpoint = unfinished(folder, tmp_path / "run", name) / "checkpoint-6" / file
        checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
        said = distill(config, tmp_path / "run", resume=True)
        assert f"{checkpoint.parent} is passed over: {file} is cut off" in " ".join(said)
        assert "resuming from checkpoint-4" in said
        assert_same_weights(tmp_path / "run", folder)

    def test_without_a_whole_checkpoint_the_stage_starts_anew(self, whole, tmp_path):
        name, config, folder = whole
        for checkpoint in unfinished(folder, tmp_path / "run", name).glob("checkpoint-*"):
            (checkpoint / "scheduler.pt").write_bytes(b"")
        said = distill(config, tmp_path / "run", resume=True)
        assert sum("is passed over: scheduler.pt is cut off" in line for line in said) == 2
        assert "no checkpoint is whole: the stage starts anew" in said
        assert_same_weights(tmp_path / "run", folder)

    def test_a_damaged_student_of_a_stage_is_made_again(self, whole, tmp_path):
        name, config, folder = whole
        shutil.copytree(folder, tmp_path / "run")
        (tmp_path / "run" / "model.safetensors").unlink()
        students = [tmp_path / "run" / "stages" / stage / "student" for stage in ("1-calibrate", f"2-{name}")]
        (students[1] / "model.safetensors").write_bytes(b"half")
        said = distill(config, tmp_path / "run", resume=True)
        assert f"{students[1]} is damaged (model.safetensors is cut off or no safetensors file)" in " ".join(said)
        assert "resuming after stage 1 of 2" in said
        assert_same_weights(tmp_path / "run", folder)
        (students[0] / "config.json").write_text("{")
        (tmp_path / "run" / "model.safetensors").unlink()
        said = distill(config, tmp_path / "run", resume=True)  # a later stage is there, which is all that is needed
        assert "resuming after stage 2 of 2" in said
        assert_same_weights(tmp_path / "run", folder)

    def test_a_half_saved_student_is_passed_over(self, whole, tmp_path, monkeypatch):
        _, config, folder = whole
        shutil.copytree(folder, tmp_path / "run")
        (tmp_path / "run" / "model.safetensors").unlink()
        stages = tmp_path / "run" / "stages"
        shutil.rmtree(stages / "1-calibrate")
        (stages / "1-calibrate" / "student.half").mkdir(parents=True)
        shutil.rmtree(next(p for p in stages.iterdir() if p.name.startswith("2-")))
        distill(config, tmp_path / "run", resume=True)
        assert_same_weights(tmp_path / "run", folder)
        assert not list(stages.rglob("*.half"))

    def test_a_finished_run_stays_as_it_is(self, whole, tmp_path):
        _, config, folder = whole
        shutil.copytree(folder, tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "stages")
        file = tmp_path / "run" / "model.safetensors"
        before = file.stat().st_mtime_ns
        said = distill(config, tmp_path / "run", resume=True)
        assert said == [f"{tmp_path / 'run'} is finished already: nothing is left to resume"]
        assert file.stat().st_mtime_ns == before
        assert not (tmp_path / "run" / "stages").exists()


@pytest.mark.parametrize(("role", "named"), [("teacher", "teacher_weights"), ("init_from", "init_from_weights")])
def test_other_weights_under_the_same_name(role, named, teacher_path, student_path, text_path, tmp_path):
    """A run went on with a teacher that had been trained further meanwhile."""
    sources = {"teacher": teacher_path, "init_from": student_path}
    copy = tmp_path / "copy"
    shutil.copytree(sources[role], copy)
    config = settings(**sources | {role: str(copy)}, text=text_path, stages=[CALIBRATE])
    distill(config, tmp_path / "run")
    file = copy / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file(weights | {name: weights[name] * 1.001}, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"began with other settings than this one \({named}\)"):
        distill(config, tmp_path / "run", resume=True)


@pytest.mark.slow
def test_resume_after_several_interruptions(chain, tmp_path, monkeypatch):
    distill(chain, tmp_path / "whole")
    for criterion, step in ((AttentionOutputLoss, 3), (AttentionOutputLoss, 3), (HiddenStateLoss, 5)):
        with monkeypatch.context() as patch:
            interrupt(patch, criterion, step)
            with pytest.raises(StoppedError):
                distill(chain, tmp_path / "run", resume=(tmp_path / "run").exists())
    distill(chain, tmp_path / "run", resume=True)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_resume_with_accumulated_gradients(teacher_path, text_path, tmp_path, monkeypatch):
    accumulated = trained("align_attention", gradient_accumulation_steps=2, max_steps=4)
    config = settings(teacher_path, text_path, [accumulated])
    distill(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, AttentionOutputLoss, 6)  # the second half of step 3
        with pytest.raises(StoppedError):
            distill(config, tmp_path / "run")
    said = distill(config, tmp_path / "run", resume=True)
    assert "resuming from checkpoint-2" in said
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


_KILLED = """
import os, signal, sys, json
from pathlib import Path
import torch
torch.set_num_threads(2)
from inhibitor_transformers.distill import DistillConfig, Distillation
from inhibitor_transformers.distill.stages.masked_lm import MaskedLMLoss

config, folder, runtime = json.loads(sys.argv[1])
original, calls = MaskedLMLoss.__call__, 0

def killed(self, *args):
    global calls
    calls += 1
    if calls == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args)

MaskedLMLoss.__call__ = killed
Distillation(DistillConfig(**config), Path(folder), runtime=runtime).run()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_resume_after_a_killed_process(masked_lm_path, text_path, tmp_path):
    torch.set_num_threads(2)
    config = settings(masked_lm_path, text_path, [CALIBRATE, trained("align_attention"), trained("masked_lm")])
    distill(config, tmp_path / "whole")
    arguments = json.dumps([config, str(tmp_path / "run"), RUNTIME])
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, arguments], capture_output=True, text=True, timeout=200, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "run" / "stages" / "3-masked_lm" / "checkpoint-4").is_dir()
    distill(config, tmp_path / "run", resume=True)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
