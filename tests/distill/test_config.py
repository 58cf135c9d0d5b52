"""Settings of a distillation: what is wrong is said, in one sentence, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inhibitor_transformers.common.settings import ConfigError, build, load_yaml
from inhibitor_transformers.distill.config import DistillConfig

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
RUN = {"teacher": "a/teacher", "text": ["texts.txt"], "stages": [{"calibrate": {}}, {"align_attention": {}}]}


def config(**changes) -> DistillConfig:
    return build(DistillConfig, RUN | changes, where="the run")


def stage(name: str, settings: dict, **runtime):
    return config(stages=[{name: settings}]).build_stage(0, Path("out"), **runtime)


class TestBuild:
    def test_an_unknown_setting_is_named_with_what_was_probably_meant(self):
        with pytest.raises(ConfigError, match=r"^the run has no setting 'techer' \(did you mean 'teacher'\?\)$"):
            config(techer="x")

    def test_an_unknown_setting_like_no_other(self):
        with pytest.raises(ConfigError, match=r"^the run has no setting 'zzzzzzz'$"):
            config(zzzzzzz="x")

    def test_missing_settings_are_named(self):
        with pytest.raises(ConfigError, match=r"^the run needs stages, teacher$"):
            build(DistillConfig, {"text": "x"}, where="the run")

    def test_without_data(self):
        with pytest.raises(ConfigError, match=r"^a run learns from text, images or audio: one of them, got none$"):
            build(DistillConfig, {"teacher": "x", "stages": [{"calibrate": {}}]}, where="the run")

    @pytest.mark.parametrize("written", ["1e-3", "1E-3", ".001", "0.001"])
    def test_floats_that_yaml_reads_as_strings(self, written):
        settings = yaml.safe_load(f"learning_rate: {written}")
        assert stage("align_attention", settings).learning_rate == 0.001

    def test_whole_numbers_that_yaml_reads_as_strings(self):
        assert stage("align_attention", yaml.safe_load("max_steps: 1e2")).max_steps == 100

    @pytest.mark.parametrize(
        ("setting", "value", "message"),
        [
            ("learning_rate", "fast", "learning_rate must be a number, got 'fast'"),
            ("learning_rate", ".nan", "learning_rate must be a number, got nan"),
            ("learning_rate", "true", "learning_rate must be a number, got True"),
            ("max_steps", "2.5", "max_steps must be a whole number, got 2.5"),
            ("max_steps", "[5]", r"max_steps must be a whole number, got \[5\]"),
            ("bf16", "maybe", "bf16 must be true or false, got 'maybe'"),
            ("seed", "", "seed must be a whole number, got None"),
        ],
    )
    def test_values_of_another_kind(self, setting, value, message):
        with pytest.raises(ConfigError, match=f"^stage 'align_attention': {message}$"):
            stage("align_attention", yaml.safe_load(f"{setting}: {value}"))

    def test_nothing_may_be_given_where_nothing_is_meant(self):
        assert stage("align_attention", {"save_total_limit": None}).save_total_limit is None

    def test_what_transformers_refuses_is_said_with_its_stage(self):
        with pytest.raises(ConfigError, match=r"^stage 'align_attention': cosin is not a valid SchedulerType"):
            stage("align_attention", {"lr_scheduler_type": "cosin"})


class TestDistillConfig:
    def test_one_text_may_stand_alone(self):
        assert config(text="texts.txt").text == ["texts.txt"]

    def test_a_source_may_have_a_number_of_its_own(self):
        run = config(text=["a.txt", {"b.txt": 5}], max_texts=70)
        assert run.sources == [("a.txt", 70), ("b.txt", 5)]
        assert config(text={"b.txt": 5}).sources == [("b.txt", 5)]

    def test_stages_may_be_without_settings(self):
        assert config(stages=[{"calibrate": None}]).stages == [{"calibrate": {}}]

    def test_names_in_order(self):
        assert config().stage_names == ["calibrate", "align_attention"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"teacher": ""}, "teacher must be a name"),
            ({"teacher": 5}, "teacher must be a name, got 5"),
            ({"held_out": None}, "held_out must be a number, got None"),
            ({"min_words": 0}, "min_words must be positive, got 0"),
            ({"max_texts": 2.5}, "max_texts must be a whole number, got 2.5"),
            ({"max_texts": "many"}, "max_texts must be a whole number, got 'many'"),
            ({"text": []}, "text must name at least one source"),
            ({"text": [5]}, "text must name at least one source"),
            ({"text": [{}]}, "text must name at least one source"),
            ({"text": [{"a.txt": "many"}]}, "text must name at least one source"),
            ({"text": [{"a.txt": True}]}, "text must name at least one source"),
            ({"text": [{"a.txt": 0}]}, "max_texts must be positive, got 0 for a.txt"),
            ({"stages": []}, "stages must be a list of .*calibrate"),
            ({"stages": {"calibrate": {}}}, "stages must be a list"),
            ({"stages": ["calibrate"]}, "a stage is one mapping {name: settings}, got 'calibrate'"),
            ({"stages": [{"calibrate": {}, "align_hidden": {}}]}, "a stage is one mapping"),
            ({"stages": [{"calibrate": [16]}]}, r"stage 'calibrate' must hold a mapping of settings, got \[16\]"),
            ({"layers": 3}, "layers must be a rule or a list, got 3"),
            ({"segments": "drop"}, "segments must be auto, keep or fold, got 'drop'"),
            ({"max_texts": 0}, "max_texts must be positive, got 0"),
            ({"held_out": 0.05}, "held_out must be from 0.1 to below 1, got 0.05"),
            ({"held_out": 1.0}, "held_out must be from 0.1 to below 1"),
            ({"student": [1]}, "student must be a mapping"),
            ({"student": {"inhibitor_sigend": False}}, r"student has no setting 'inhibitor_sigend' \(did you mean"),
            ({"student": {"dim": 16}}, "student has no setting 'dim'"),
            ({"student": {"inhibitor_center": "median"}}, "student: .*inhibitor_center.* got '?median"),
            ({"student": {"inhibitor_gamma": "wide"}}, "student: .*inhibitor_gamma"),
            ({"student": {"inhibitor_length_reference": 0}}, "student: inhibitor_length_reference must be positive"),
            (
                {"student": {"inhibitor_gamma": float("nan")}},
                "student: inhibitor_gamma must be a finite number, got nan",
            ),
            ({"student": {"dropout": 1.5}}, "student: dropout must be from 0 to below 1, got 1.5"),
            ({"student": {"attention_dropout": -0.1}}, "student: attention_dropout must be from 0 to below 1"),
            ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ],
    )
    def test_what_is_wrong_is_said(self, changes, message):
        with pytest.raises(ConfigError, match=message):
            config(**changes)

    def test_student_settings(self):
        assert config(student={"inhibitor_gamma": 2.0, "dropout": 0.0}).student["inhibitor_gamma"] == 2.0
        assert config(student=None).student == {}

    @pytest.mark.parametrize(
        ("stage", "message"),
        [
            ({"align_contexts": {}}, "^unknown stage 'align_contexts': it is called 'align_attention' now; known"),
            (
                {"align_attention": {"pair_share": 0.5}},
                "no setting 'pair_share': it is called 'pair_fraction' now$",
            ),
            ({"align_hidden": {"first_token_weight": 8}}, "'first_token_weight': it is called 'cls_weight' now$"),
        ],
    )
    def test_an_old_name_is_told_by_the_new_one(self, stage, message):
        with pytest.raises(ConfigError, match=message):
            config(stages=[stage]).build_stage(0, Path("out"))

    def test_an_unknown_stage(self):
        with pytest.raises(
            ConfigError, match=r"unknown stage 'align_context' \(did you mean 'align_attention'\?\); known"
        ):
            config(stages=[{"align_context": {}}]).build_stage(0, Path("out"))

    def test_a_stage_has_the_seed_of_the_run_unless_it_has_its_own(self):
        run = config(seed=7, stages=[{"align_attention": {}}, {"align_hidden": {"seed": 3}}])
        assert [run.build_stage(i, Path("out")).seed for i in range(2)] == [7, 3]

    def test_where_a_stage_writes(self):
        assert stage("align_attention", {}).output_dir == "out"

    def test_what_the_command_line_decides(self):
        assert stage("align_attention", {}, use_cpu=True).use_cpu is True

    @pytest.mark.parametrize(
        ("key", "instead"),
        [
            ("output_dir", "the run folder decides"),
            ("per_device_train_batch_size", "tokens_per_step decides"),
            ("num_train_epochs", "max_steps decides"),
        ],
    )
    def test_settings_that_would_be_passed_over_are_refused(self, key, instead):
        with pytest.raises(ConfigError, match=f"stage 'align_hidden': {key} cannot be set; {instead}"):
            stage("align_hidden", {key: 3})


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_shipped_yaml_is_valid(file):
    run = build(DistillConfig, load_yaml(file), where="the run")
    stages = [run.build_stage(i, Path("out"), use_cpu=True) for i in range(len(run.stages))]  # as `--device auto` here
    assert [stage.name for stage in stages] == run.stage_names


def test_yaml_files_are_shipped():
    assert CONFIGS


def test_seeds_that_no_generator_takes():
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match=f"seed must be from 0 to 4294967295, got {seed}"):
            DistillConfig(**RUN, seed=seed)


def test_paths_are_as_good_as_strings(tmp_path):
    config = DistillConfig(**(RUN | {"teacher": tmp_path, "init_from": tmp_path, "text": tmp_path / "a.txt"}))
    assert (config.teacher, config.init_from, config.text) == (str(tmp_path), str(tmp_path), [str(tmp_path / "a.txt")])
