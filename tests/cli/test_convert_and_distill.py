"""`inhibit convert` and `inhibit distill` on a tiny teacher."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer, DistilBertModel

from inhibitor_transformers.distill.stages.align_attention import AttentionOutputLoss
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.tiny import assert_same_weights, saved
from tests.terminal import screen, terminal

CALIBRATE = {"calibrate": {"lengths": [16, 32], "tokens_per_length": 64}}
ALIGN = {"align_attention": {"max_steps": 4, "tokens_per_step": 64, "lengths": [16, 32], "save_steps": 2}}


@pytest.fixture
def config(tmp_path, teacher, texts) -> Any:
    """Writes a YAML with these settings changed; returns its path."""

    def write(**changes: Any) -> Path:
        file = tmp_path / "run.yaml"
        settings = {"teacher": teacher, "text": [texts], "stages": [CALIBRATE, ALIGN]} | changes
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return file

    return write


class TestConvert:
    def test_a_calibrated_student(self, inhibit, teacher, texts, tmp_path):
        done = inhibit("convert", teacher, tmp_path / "student", "--text", texts)
        assert done.status == 0, done.err
        assert "student 0 ← teacher 0" in done.out
        assert "layer 1: relative error of the attention outputs" in done.out
        assert f"student saved in {tmp_path / 'student'}" in done.out
        student = AutoModel.from_pretrained(tmp_path / "student")
        assert type(student) is InhibiDistilBertModel
        assert student.transformer.layer[0].attention.inhibitor.gamma.unique().numel() > 1

    def test_its_progress(self, phases, teacher, texts, tmp_path):
        found = phases("convert", teacher, tmp_path / "student", "--text", texts)
        assert {"reading texts.txt", "windows of", "asking the teacher", "calibrating"} <= found

    def test_layers_by_rule(self, inhibit, teacher, texts, tmp_path):
        done = inhibit("convert", teacher, tmp_path / "student", "--text", texts, "--layers", "last 1")
        assert "student 0 ← teacher 1" in done.out
        assert AutoModel.from_pretrained(tmp_path / "student").config.n_layers == 1

    def test_a_dry_run_shows_the_plan_and_does_nothing(self, inhibit, teacher, tmp_path):
        done = inhibit("convert", teacher, tmp_path / "student", "--layers", "1,0", "--dry-run")
        assert done.status == 0
        assert done.out == "student 0 ← teacher 1\nstudent 1 ← teacher 0\nstages: calibrate\n"
        assert not (tmp_path / "student").exists()

    def test_the_control_is_a_plain_distilbert(self, inhibit, refused, teacher, texts, tmp_path):
        output = tmp_path / "baseline"
        done = inhibit("convert", teacher, output, "--softmax", "--layers", "last 1")
        assert done.status == 0, done.err
        baseline = AutoModel.from_pretrained(output)
        assert type(baseline) is DistilBertModel
        assert baseline.config.n_layers == 1
        assert AutoTokenizer.from_pretrained(output)("the cat")["input_ids"]
        assert "exists" in refused("convert", teacher, output, "--softmax")
        assert "no text" in refused("convert", teacher, tmp_path / "x", "--softmax", "--text", texts)

    @pytest.mark.parametrize("flags", [[], ["--softmax"]])
    def test_a_teacher_with_weights_that_are_nan(self, refused, teacher, texts, tmp_path, flags):
        """It was converted, "nan -> nan", and saved."""
        model = AutoModel.from_pretrained(teacher)
        with torch.no_grad():
            model.encoder.layer[1].output.dense.bias[0] = float("nan")
        broken = saved(model, tmp_path / "broken")
        line = refused("convert", broken, tmp_path / "out", *(flags or ["--text", texts]))
        assert (
            f"{broken!r} has weights that are NaN or infinite, in 1 tensor(s): encoder.layer.1.output.dense.bias"
            in line
        )
        assert not (tmp_path / "out").exists()

    def test_the_seed_is_used(self, inhibit, teacher, texts, tmp_path):
        for seed in ("0", "0", "1"):
            inhibit("convert", teacher, tmp_path / seed, "--text", texts, "--seed", seed, "--overwrite")
        records = [yaml.safe_load((tmp_path / seed / "run.yaml").read_text())["seed"] for seed in "01"]
        assert records == [0, 1]

    def test_an_existing_folder_is_kept_unless_asked(self, inhibit, refused, teacher, texts, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        for flags in ((), ("--overwrite",), ("--softmax",), ("--softmax", "--overwrite")):
            text = () if "--softmax" in flags else ("--text", texts)
            assert "choose another folder" in refused("convert", teacher, tmp_path, *text, *flags)
            assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
        assert inhibit("convert", teacher, tmp_path / "out", "--text", texts).status == 0
        (tmp_path / "out" / "old.txt").write_text("old")
        assert "exists; add --overwrite" in refused("convert", teacher, tmp_path / "out", "--text", texts)
        assert inhibit("convert", teacher, tmp_path / "out", "--text", texts, "--overwrite").status == 0
        assert not (tmp_path / "out" / "old.txt").exists()

    def test_a_teacher_that_is_not_there(self, refused, texts, tmp_path):
        message = refused("convert", tmp_path / "none", tmp_path / "student", "--text", texts)
        assert "there is no such folder, and it is no Hub id" in message
        assert not (tmp_path / "student").exists()

    def test_an_impossible_layer_rule(self, refused, teacher, texts, tmp_path):
        message = refused("convert", teacher, tmp_path / "student", "--text", texts, "--layers", "some")
        assert "cannot read layer rule 'some'" in message

    def test_an_inhibitor_is_no_teacher(self, refused, student, texts, tmp_path):
        message = refused("convert", student, tmp_path / "student", "--text", texts)
        assert "no student can be built from a 'inhibidistilbert' teacher" in message


class TestDistill:
    def test_the_stages_of_a_yaml(self, inhibit, config, tmp_path):
        done = inhibit("distill", config(), "--output", tmp_path / "run", "--device", "cpu")
        assert done.status == 0, done.err
        assert "stage 2 of 2: align_attention" in done.out
        assert "memory, estimated: " in done.out
        assert type(AutoModel.from_pretrained(tmp_path / "run")) is InhibiDistilBertModel

    def test_a_line_for_each_log_and_no_bar_in_a_file(self, inhibit, config, tmp_path):
        done = inhibit("distill", config(), "--output", tmp_path / "run", "--set", "align_attention.logging_steps=2")
        lines = [line for line in done.out.splitlines() if line.startswith("step ")]
        assert [line.split(": loss ")[0] for line in lines] == ["step 2 of 4", "step 4 of 4"]
        assert done.err == ""

    def test_its_progress_and_messages_on_a_terminal(self, inhibit, config, tmp_path, monkeypatch):
        with terminal(monkeypatch, "stdout", "stderr", columns=100) as shown:
            inhibit("distill", config(), "--output", tmp_path / "run", "--set", "align_attention.logging_steps=2")
        written = shown.close()
        assert {"tokenizing", "measuring the teacher's outputs"} <= set(re.findall(r"\r([a-z' ]+) \d+/", written))
        lines = [line for line in screen(written) if line]
        assert f"student saved in {tmp_path / 'run'}" in "".join(lines[-3:])
        (bar,) = [line for line in lines if "4/4" in line]
        assert bar.startswith("100%|")
        assert [line[:11] for line in lines if "loss" in line and "step" in line] == ["step 2 of 4", "step 4 of 4"]

    def test_flags_and_set_override_the_yaml(self, inhibit, config, teacher, texts, tmp_path):
        moved = tmp_path / "texts.txt"
        shutil.copy(texts, moved)
        file = config(teacher="none", text=["none"], seed=5, held_out=0.2)
        flags = ["--teacher", teacher, "--text", moved, "--layers", "first 1", "--seed", "7"]
        sets = [
            "--set",
            "align_attention.max_steps=2",
            "--set",
            "align_attention.learning_rate=1e-4",
            "--set",
            "held_out=0.3",
        ]
        done = inhibit("distill", file, "--output", tmp_path / "run", *flags, *sets)
        assert done.status == 0, done.err
        record = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
        found = [record[name] for name in ("teacher", "text", "layers", "seed", "held_out")]
        assert found == [teacher, [str(moved)], "first 1", 7, 0.3]
        assert record["stages"][1]["align_attention"]["max_steps"] == 2

    def test_a_dry_run_checks_every_stage(self, inhibit, refused, config, tmp_path):
        done = inhibit("distill", config(), "--output", tmp_path / "run", "--dry-run")
        assert (done.status, done.out) == (
            0,
            "student 0 ← teacher 0\nstudent 1 ← teacher 1\nstages: calibrate, align_attention\n",
        )
        wrong = config(stages=[CALIBRATE, {"align_context": {}}])
        assert "did you mean 'align_attention'" in refused("distill", wrong, "--output", tmp_path / "run", "--dry-run")
        wrong = config(stages=[{"align_hidden": {"max_step": 3}}])
        assert "no setting 'max_step' (did you mean 'max_steps'?)" in refused(
            "distill", wrong, "--output", tmp_path / "run", "--dry-run"
        )
        assert not (tmp_path / "run").exists()

    def test_resume_goes_on_to_the_same_weights(self, inhibit, config, tmp_path, monkeypatch):
        file = config()
        inhibit("distill", file, "--output", tmp_path / "whole")
        original, calls = AttentionOutputLoss.__call__, 0

        def interrupted(self, *arguments):
            nonlocal calls
            calls += 1
            if calls == 4:
                raise KeyboardInterrupt
            return original(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(AttentionOutputLoss, "__call__", interrupted)
            done = inhibit("distill", file, "--output", tmp_path / "run")
        assert done.status == 130
        assert "go on with --resume" in done.err
        done = inhibit("distill", file, "--output", tmp_path / "run", "--resume")
        assert done.status == 0
        assert "resuming from checkpoint-2" in done.out
        assert_same_weights(tmp_path / "run", tmp_path / "whole")

    def test_resume_with_other_settings_is_refused(self, inhibit, refused, config, tmp_path):
        file = config(stages=[CALIBRATE])
        inhibit("distill", file, "--output", tmp_path / "run")
        message = refused("distill", file, "--output", tmp_path / "run", "--resume", "--seed", "3")
        assert "began with other settings than this one (seed)" in message

    def test_an_existing_folder(self, refused, config, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "mine.txt").write_text("mine")
        assert "exists and holds no run" in refused("distill", config(), "--output", tmp_path / "run")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"techer": "x"}, "the run has no setting 'techer' (did you mean 'teacher'?)"),
            ({"stages": []}, "stages must be a list of"),
            ({"text": "no/such/file.txt"}, "neither an existing file or folder nor a Hub id"),
            ({"layers": [5]}, "the teacher has layers 0 to 1"),
            ({"stages": [{"masked_lm": {"max_steps": 2}}]}, "does not have a masked-LM head"),
            ({"stages": [{"align_hidden": {"learning_rate": "fast"}}]}, "learning_rate must be a number, got 'fast'"),
            ({"student": {"inhibitor_center": "median"}}, "inhibitor_center"),
        ],
    )
    def test_mistakes_in_the_yaml(self, changes, message, refused, config, tmp_path):
        assert message in refused("distill", config(**changes), "--output", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("assignment", "message"),
        [
            ("align_attention.max_steps", "write key=value, or stage.key=value"),
            ("masked_lm.max_steps=3", "this run has no stage 'masked_lm'"),
            ("text=[a", "as YAML"),
        ],
    )
    def test_mistakes_in_set(self, assignment, message, refused, config, tmp_path):
        assert message in refused("distill", config(), "--output", tmp_path / "run", "--set", assignment)

    def test_a_missing_teacher_in_the_yaml(self, refused, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text("text: [a.txt]\nstages: [{calibrate: {}}]\n")
        assert "the run needs teacher" in refused("distill", file, "--output", tmp_path / "run")

    def test_a_yaml_s_own_reporters_and_device_hold(self, inhibit, config, tmp_path):
        """The flags' defaults once took their place without a word."""
        pytest.importorskip("tensorboard")
        own = {"report_to": "tensorboard", "use_cpu": True}
        file = config(stages=[{"align_attention": ALIGN["align_attention"] | own}])
        assert inhibit("distill", file, "--output", tmp_path / "run").status == 0
        assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
