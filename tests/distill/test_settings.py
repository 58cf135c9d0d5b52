"""Settings from YAML and flags: what is wrong is said, in one sentence, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inhibitor_transformers.distill.config import (
    AlignContextsArguments,
    AlignHiddenArguments,
    CalibrateConfig,
    DistillConfig,
    MaskedLMArguments,
)
from inhibitor_transformers.distill.finetune import FinetuneArguments
from inhibitor_transformers.distill.settings import ConfigError, build, load_yaml, override

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
RUN = {"teacher": "a/teacher", "text": ["texts.txt"], "stages": [{"calibrate": {}}, {"align_contexts": {}}]}


def config(**changes) -> DistillConfig:
    return build(DistillConfig, RUN | changes, where="the run")


def stage(name: str, settings: dict, **runtime):
    return config(stages=[{name: settings}]).build_stage(0, Path("out"), **runtime)


class TestLoadYaml:
    def test_a_mapping(self, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text("teacher: minilm\nstages:\n  - calibrate: {}\n")
        assert load_yaml(file) == {"teacher": "minilm", "stages": [{"calibrate": {}}]}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("- a\n- b\n", "must hold a mapping of settings, found list"),
            ("", "must hold a mapping of settings, found NoneType"),
            ("a: [1", "cannot read"),
            ("a: !!python/object/apply:os.system ['true']", "cannot read"),
        ],
    )
    def test_anything_else(self, text, message, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_yaml(file)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
            load_yaml(tmp_path / "none.yaml")


class TestOverride:
    def test_keys_of_the_run(self):
        changed = override(RUN, ["seed=3", "layers=[0, 2]", "segments=fold", "max_texts=null", "teacher=b/other"])
        assert changed == RUN | {
            "seed": 3,
            "layers": [0, 2],
            "segments": "fold",
            "max_texts": None,
            "teacher": "b/other",
        }

    def test_keys_of_a_stage(self):
        changed = override(RUN, ["align_contexts.max_steps=5", "calibrate.lengths=[16, 32]"])
        assert changed["stages"] == [{"calibrate": {"lengths": [16, 32]}}, {"align_contexts": {"max_steps": 5}}]

    def test_every_stage_of_that_name(self):
        twice = RUN | {"stages": [{"calibrate": None}, {"align_hidden": {"seed": 1}}, {"calibrate": {}}]}
        changed = override(twice, ["calibrate.tokens_per_length=64"])["stages"]
        assert changed[0] == changed[2] == {"calibrate": {"tokens_per_length": 64}}
        assert changed[1] == {"align_hidden": {"seed": 1}}

    def test_the_settings_given_are_not_changed(self):
        before = yaml.safe_dump(RUN)
        override(RUN, ["align_contexts.max_steps=5", "seed=1"])
        assert yaml.safe_dump(RUN) == before

    def test_a_value_may_hold_an_equals_sign(self):
        assert override({}, ["run_name=a=b"]) == {"run_name": "a=b"}

    @pytest.mark.parametrize(
        ("assignment", "message"),
        [
            ("seed", "cannot read 'seed'; write key=value, or stage.key=value"),
            ("align_context.max_steps=5", "this run has no stage 'align_context'"),
            ("text=[a", "cannot read the value of 'text=\\[a' as YAML"),
        ],
    )
    def test_what_cannot_be_read(self, assignment, message):
        with pytest.raises(ConfigError, match=message):
            override(RUN, [assignment])

    @pytest.mark.parametrize("stages", [None, ["calibrate"], "calibrate"])
    def test_stages_that_are_no_list_of_mappings_have_no_stage_to_set(self, stages):
        with pytest.raises(ConfigError, match="this run has no stage 'calibrate'"):
            override(RUN | {"stages": stages}, ["calibrate.lengths=[16]"])


class TestBuild:
    def test_an_unknown_setting_is_named_with_what_was_probably_meant(self):
        with pytest.raises(ConfigError, match=r"^the run has no setting 'techer' \(did you mean 'teacher'\?\)$"):
            config(techer="x")

    def test_an_unknown_setting_like_no_other(self):
        with pytest.raises(ConfigError, match=r"^the run has no setting 'zzzzzzz'$"):
            config(zzzzzzz="x")

    def test_missing_settings_are_named(self):
        with pytest.raises(ConfigError, match=r"^the run needs stages, text$"):
            build(DistillConfig, {"teacher": "x"}, where="the run")

    @pytest.mark.parametrize("written", ["1e-3", "1E-3", ".001", "0.001"])
    def test_floats_that_yaml_reads_as_strings(self, written):
        settings = yaml.safe_load(f"learning_rate: {written}")
        assert stage("align_contexts", settings).learning_rate == 0.001

    def test_whole_numbers_that_yaml_reads_as_strings(self):
        assert stage("align_contexts", yaml.safe_load("max_steps: 1e2")).max_steps == 100

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
        with pytest.raises(ConfigError, match=f"^stage 'align_contexts': {message}$"):
            stage("align_contexts", yaml.safe_load(f"{setting}: {value}"))

    def test_nothing_may_be_given_where_nothing_is_meant(self):
        assert stage("align_contexts", {"save_total_limit": None}).save_total_limit is None

    def test_what_transformers_refuses_is_said_with_its_stage(self):
        with pytest.raises(ConfigError, match=r"^stage 'align_contexts': cosin is not a valid SchedulerType"):
            stage("align_contexts", {"lr_scheduler_type": "cosin"})


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
        assert config().stage_names == ["calibrate", "align_contexts"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"teacher": ""}, "teacher must be a name"),
            ({"teacher": 5}, "teacher must be a name, got 5"),
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
        ],
    )
    def test_what_is_wrong_is_said(self, changes, message):
        with pytest.raises(ConfigError, match=message):
            config(**changes)

    def test_student_settings(self):
        assert config(student={"inhibitor_gamma": 2.0, "dropout": 0.0}).student["inhibitor_gamma"] == 2.0
        assert config(student=None).student == {}

    def test_an_unknown_stage(self):
        with pytest.raises(
            ConfigError, match=r"unknown stage 'align_context' \(did you mean 'align_contexts'\?\); known"
        ):
            config(stages=[{"align_context": {}}]).build_stage(0, Path("out"))

    def test_a_stage_has_the_seed_of_the_run_unless_it_has_its_own(self):
        run = config(seed=7, stages=[{"align_contexts": {}}, {"align_hidden": {"seed": 3}}])
        assert [run.build_stage(i, Path("out")).seed for i in range(2)] == [7, 3]

    def test_where_a_stage_writes(self):
        assert stage("align_contexts", {}).output_dir == "out"

    def test_what_the_command_line_decides(self):
        assert stage("align_contexts", {}, use_cpu=True).use_cpu is True

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


class TestStages:
    def test_the_weights_of_the_triple_loss_are_those_of_inhibidistilbert(self):
        """arXiv 2503.15983: 5, 1, 2 at temperature 2; DistilBERT itself was trained with 5, 2, 1."""
        made = stage("masked_lm", {})
        assert isinstance(made, MaskedLMArguments)
        assert (made.alpha_ce, made.alpha_mlm, made.alpha_cos, made.temperature) == (5.0, 1.0, 2.0, 2.0)

    def test_dropout_is_off_where_the_teacher_is_matched(self):
        assert not AlignContextsArguments.dropout
        assert not AlignHiddenArguments.dropout
        assert MaskedLMArguments.dropout

    @pytest.mark.parametrize(
        ("name", "settings", "message"),
        [
            ("calibrate", {"lengths": []}, "calibrate.lengths must be a list of at least 8 tokens each"),
            ("calibrate", {"lengths": [4, 16]}, "calibrate.lengths must be a list of at least 8 tokens each"),
            ("calibrate", {"tokens_per_length": 64}, "calibrate.tokens_per_length must hold one longest text"),
            ("calibrate", {"gammas": []}, "calibrate.gammas must be a list of numbers"),
            ("calibrate", {"length_exponents": 0.5}, "calibrate.length_exponents must be a list of numbers"),
            ("align_hidden", {"first_token_weight": -1.0}, "first_token_weight must not be negative"),
            ("align_hidden", {"text_weight": -1.0}, "text_weight must not be negative"),
            ("align_contexts", {"pair_share": 1.5}, "pair_share must be from 0 to 1"),
            ("align_contexts", {"fixed_scalars": ["rho"]}, "fixed_scalars must be of gamma, .*, got rho"),
            ("calibrate", {"max_steps": 3}, "stage 'calibrate' has no setting 'max_steps'"),
            ("align_contexts", {"lengths": 64}, "align_contexts.lengths must be a list .* got 64"),
            ("align_contexts", {"lengths": "32,64"}, "align_contexts.lengths must be a list .* got '32,64'"),
            ("align_contexts", {"max_steps": 0}, "align_contexts.max_steps must be positive, got 0"),
            ("align_contexts", {"tokens_per_step": 255}, r"tokens_per_step \(255\) must hold the longest text \(256\)"),
            ("align_hidden", {"scalar_learning_rate_factor": -1}, "scalar_learning_rate_factor must not be negative"),
            ("masked_lm", {"temperature": 0}, "masked_lm.temperature must be positive, got 0"),
        ],
    )
    def test_what_is_out_of_range(self, name, settings, message):
        with pytest.raises(ConfigError, match=message):
            stage(name, settings)

    def test_calibration_has_no_trainer(self):
        assert isinstance(stage("calibrate", {}, use_cpu=True), CalibrateConfig)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 4}, "max_length must be at least 8 tokens, got 4"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"alpha_soft": -0.1}, "loss weights must not be negative"),
        ({"learning_rat": 1e-4}, r"fine-tuning has no setting 'learning_rat' \(did you mean 'learning_rate'\?\)"),
        ({"num_train_epochs": "many"}, "num_train_epochs must be a number, got 'many'"),
    ],
)
def test_fine_tuning_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(FinetuneArguments, {"output_dir": "out"} | settings, where="fine-tuning")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_shipped_yaml_is_valid(file):
    run = build(DistillConfig, load_yaml(file), where="the run")
    assert [run.build_stage(i, Path("out")).name for i in range(len(run.stages))] == run.stage_names


def test_yaml_files_are_shipped():
    assert CONFIGS


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", b"teacher: 2020-13-45", b"[" * 5000, b"a: *b", b"- a", b""])
def test_a_file_that_is_no_yaml_is_named_in_one_line(content, tmp_path):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^[^\n]*run.yaml[^\n]+$"):
        load_yaml(tmp_path / "run.yaml")


def test_a_value_that_is_no_yaml():
    with pytest.raises(ConfigError, match="cannot read the value of 'seed=2020-13-45' as YAML"):
        override(RUN, ["seed=2020-13-45"])


def test_seeds_that_no_generator_takes():
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match=f"seed must be from 0 to 4294967295, got {seed}"):
            DistillConfig(**RUN, seed=seed)


def test_paths_are_as_good_as_strings(tmp_path):
    config = DistillConfig(**(RUN | {"teacher": tmp_path, "start": tmp_path, "text": tmp_path / "a.txt"}))
    assert (config.teacher, config.start, config.text) == (str(tmp_path), str(tmp_path), [str(tmp_path / "a.txt")])
