"""Settings from YAML and flags: what is wrong is said, in one sentence, before anything runs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from transformers import TrainingArguments

from inhibitor_transformers.common.number_ranges import TRAINING
from inhibitor_transformers.common.settings import ConfigError, Flag, build, load_yaml, override
from inhibitor_transformers.distill.config import (
    AlignAttentionArguments,
    AlignHiddenArguments,
    CalibrateConfig,
    DistillConfig,
    MaskedLMArguments,
)
from inhibitor_transformers.distill.task import FinetuneArguments

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
RUN = {"teacher": "a/teacher", "text": ["texts.txt"], "stages": [{"calibrate": {}}, {"align_attention": {}}]}


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

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("seed: 1\nteacher: a\nseed: 2\n", "'seed' is given twice, in lines 1 and 3"),
            ("student:\n  dropout: 0.0\n  dropout: 0.1\n", "'dropout' is given twice, in lines 2 and 3"),
            ("stages:\n- align: {max_steps: 1, max_steps: 2}\n", "'max_steps' is given twice, in lines 2 and 2"),
            ("tasks:\n  sst2: {}\n  cola: {}\n  'sst2': {}\n", "'sst2' is given twice, in lines 2 and 4"),
            ("a: {1: x, 0x1: y}\n", "1 is given twice"),
            ("a: &a {b: 1}\nc: {<<: *a, <<: *a}\n", "'<<' is given twice"),
        ],
    )
    def test_a_key_given_twice(self, text, message, tmp_path):
        """The last one won, without a word."""
        file = tmp_path / "run.yaml"
        file.write_text(text)
        with pytest.raises(ConfigError, match=rf"cannot read .*run\.yaml: {message}"):
            load_yaml(file)

    def test_merged_keys_may_be_overridden(self, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text("a: &a {one: 1, two: 1}\nd: &d {<<: *a, two: 2}\ne: {<<: *d, one: 3}\n1: x\n'1': y\n")
        loaded = load_yaml(file)
        assert (loaded["d"], loaded["e"]) == ({"one": 1, "two": 2}, {"one": 3, "two": 2})
        assert (loaded[1], loaded["1"]) == ("x", "y")

    def test_a_file_that_is_no_text(self, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_bytes(b"a: \xff\xfe")
        with pytest.raises(ConfigError, match=r"cannot read .*run\.yaml"):
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
        changed = override(RUN, ["align_attention.max_steps=5", "calibrate.lengths=[16, 32]"])
        assert changed["stages"] == [{"calibrate": {"lengths": [16, 32]}}, {"align_attention": {"max_steps": 5}}]

    def test_every_stage_of_that_name(self):
        twice = RUN | {"stages": [{"calibrate": None}, {"align_hidden": {"seed": 1}}, {"calibrate": {}}]}
        changed = override(twice, ["calibrate.tokens_per_length=64"])["stages"]
        assert changed[0] == changed[2] == {"calibrate": {"tokens_per_length": 64}}
        assert changed[1] == {"align_hidden": {"seed": 1}}

    def test_the_settings_given_are_not_changed(self):
        before = yaml.safe_dump(RUN)
        override(RUN, ["align_attention.max_steps=5", "seed=1"])
        assert yaml.safe_dump(RUN) == before

    def test_a_value_may_hold_an_equals_sign(self):
        assert override({}, ["run_name=a=b"]) == {"run_name": "a=b"}

    @pytest.mark.parametrize(
        ("assignment", "message"),
        [
            ("seed", "cannot read 'seed'; write key=value, or stage.key=value"),
            ("align_context.max_steps=5", "this run has no stage 'align_context'"),
            ("text=[a", "cannot read the value of 'text=\\[a' as YAML"),
            ("=1", "cannot read '=1'; write key=value"),
            ("student={dropout: 0, dropout: 1}", "as YAML: 'dropout' is given twice"),
        ],
    )
    def test_what_cannot_be_read(self, assignment, message):
        with pytest.raises(ConfigError, match=message):
            override(RUN, [assignment])

    @pytest.mark.parametrize("key", ["seed", "align_attention.max_steps"])
    def test_a_key_set_twice(self, key):
        with pytest.raises(ConfigError, match=rf"'{key}' is set twice \(--set {key}=2\)"):
            override(RUN, [f"{key}=1", "teacher=a", f"{key}=2"])

    def test_flags_come_last_and_not_beside_an_assignment(self):
        flags = {"seed": Flag("--seed", 5), "teacher": Flag("--teacher", None)}
        assert override(RUN | {"seed": 1}, ["teacher=b"], flags) == RUN | {"seed": 5, "teacher": "b"}
        with pytest.raises(ConfigError, match="'seed' is given by --seed and by --set; keep one of them"):
            override(RUN, ["seed=1"], flags)

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


class TestStages:
    def test_the_weights_of_the_triple_loss_are_those_of_inhibidistilbert(self):
        """arXiv 2503.15983: 5, 1, 2 at temperature 2; DistilBERT itself was trained with 5, 2, 1."""
        made = stage("masked_lm", {})
        assert isinstance(made, MaskedLMArguments)
        assert (made.alpha_ce, made.alpha_mlm, made.alpha_cos, made.temperature) == (5.0, 1.0, 2.0, 2.0)

    def test_dropout_is_off_where_the_teacher_is_matched(self):
        assert not AlignAttentionArguments.dropout
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
            ("align_hidden", {"cls_weight": -1.0}, "cls_weight must not be negative"),
            ("align_hidden", {"pooled_weight": -1.0}, "pooled_weight must not be negative"),
            ("align_attention", {"pair_fraction": 1.5}, "pair_fraction must be from 0 to 1"),
            ("align_attention", {"frozen_scalars": "gamma"}, "frozen_scalars must be a list of gamma, .*, got 'gamma'"),
            ("align_attention", {"frozen_scalars": 5}, "frozen_scalars must be a list of gamma, .*, got 5"),
            ("align_attention", {"frozen_scalars": None}, "frozen_scalars must be a list of gamma, .*, got None"),
            ("align_attention", {"frozen_scalars": [5]}, r"frozen_scalars must be a list of gamma, .*, got \[5\]"),
            (
                "align_attention",
                {"frozen_scalars": ["rho"]},
                r"frozen_scalars must be a list of gamma, .*, got \['rho'\]",
            ),
            ("align_attention", {"eval_strategy": "steps"}, "^align_attention.eval_strategy cannot be used"),
            ("align_attention", {"eval_on_start": True}, "^align_attention.eval_on_start cannot be used"),
            ("align_attention", {"fsdp": "full_shard"}, "^align_attention.fsdp cannot be used"),
            ("align_attention", {"dataloader_drop_last": True}, "^align_attention.dataloader_drop_last cannot be used"),
            ("calibrate", {"max_steps": 3}, "stage 'calibrate' has no setting 'max_steps'"),
            ("align_attention", {"lengths": 64}, "align_attention.lengths must be a list .* got 64"),
            ("align_attention", {"lengths": "32,64"}, "align_attention.lengths must be a list .* got '32,64'"),
            ("align_attention", {"max_steps": 0}, "align_attention.max_steps must be positive, got 0"),
            (
                "align_attention",
                {"tokens_per_step": 255},
                r"tokens_per_step \(255\) must hold the longest text \(256\)",
            ),
            ("align_hidden", {"scalar_learning_rate_factor": -1}, "scalar_learning_rate_factor must not be negative"),
            ("masked_lm", {"temperature": 0}, "masked_lm.temperature must be positive, got 0"),
            ("masked_lm", {"alpha_cos": -1.0}, "masked_lm.alpha_cos must not be negative, got -1"),
            ("masked_lm", {"alpha_ce": 0, "alpha_mlm": 0, "alpha_cos": 0}, "one of masked_lm's .* must be positive"),
            ("align_hidden", {"learning_rate": 0}, "^align_hidden.learning_rate must be positive, got 0"),
            ("align_hidden", {"max_steps": -1}, "align_hidden.max_steps must be positive, got -1"),
            ("align_attention", {"save_steps": -5}, "align_attention.save_steps must be positive, got -5"),
            ("calibrate", {"gammas": [1.0, float("nan")]}, "each of calibrate.gammas must be positive, got nan"),
            ("calibrate", {"gammas": [0.0]}, "each of calibrate.gammas must be positive, got 0.0"),
            ("calibrate", {"deltas": [float("inf")]}, "each of calibrate.deltas must be a finite number, got inf"),
            ("calibrate", {"length_exponents": [True]}, "each of calibrate.length_exponents must be a finite number"),
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
        ({"alpha_soft": -0.1}, "alpha_soft must not be negative, got -0.1"),
        ({"learning_rat": 1e-4}, r"fine-tuning has no setting 'learning_rat' \(did you mean 'learning_rate'\?\)"),
        ({"num_train_epochs": "many"}, "num_train_epochs must be a number, got 'many'"),
    ],
)
def test_fine_tuning_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(FinetuneArguments, {"output_dir": "out"} | settings, where="fine-tuning")


WRONG_NUMBERS = [
    ("num_train_epochs", 0),
    ("num_train_epochs", -1),
    ("learning_rate", 0.0),
    ("learning_rate", -1e-4),
    ("per_device_train_batch_size", 0),
    ("per_device_eval_batch_size", -2),
    ("gradient_accumulation_steps", 0),
    ("max_steps", 0),
    ("max_steps", -5),
    ("warmup_steps", -1),
    ("weight_decay", -0.1),
    ("adam_beta1", 1.0),
    ("adam_epsilon", 0.0),
    ("max_grad_norm", -1.0),
    ("logging_steps", 0),
    ("eval_steps", 0),
    ("save_steps", -1),
    ("save_total_limit", 0),
    ("eval_delay", -1),
    ("seed", -1),
    ("seed", 2**32),
    ("data_seed", -1),
    ("dataloader_num_workers", -1),
    ("label_smoothing_factor", 0.1),
    ("scalar_learning_rate_factor", -1.0),
    ("alpha_hidden", -1.0),
    ("temperature", -2.0),
    ("alignment_epochs", -1),
    ("alignment_learning_rate", 0.0),
    ("alignment_cls_weight", -1.0),
    ("selection_fraction", 1.0),
    ("attention_dropout", 1.0),
    ("length_buckets", 0),
    ("early_stopping_patience", 0),
]


@pytest.mark.parametrize(("name", "value"), WRONG_NUMBERS)
def test_numbers_of_fine_tuning_that_would_train_nothing(name, value):
    """Some saved an untrained model, others ended late in an error of another library."""
    with pytest.raises(ConfigError, match=rf"^{name} .*, got {value}"):
        build(FinetuneArguments, {"output_dir": "out", name: value}, where="fine-tuning")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", sorted({name for name, _ in WRONG_NUMBERS} - {"label_smoothing_factor"}))
def test_numbers_that_are_none(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must .*, got -?(nan|inf)$"):
        FinetuneArguments(output_dir="out", **{name: value})


def test_every_number_of_transformers_has_a_range():
    numbers = {
        field.name
        for field in dataclasses.fields(TrainingArguments)
        if set(re.findall(r"\w+", str(field.type))) & {"int", "float"} and "dict" not in str(field.type)
    }
    assert numbers - TRAINING.keys() == {"label_smoothing_factor", "local_rank"}


def test_weights_of_a_loss_that_are_all_zero():
    with pytest.raises(ConfigError, match="one of alpha_task, alpha_soft, alpha_hidden must be positive"):
        FinetuneArguments(output_dir="out", alpha_task=0.0, alpha_soft=0.0)


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


def test_an_override_of_a_stage_where_stages_are_no_list():
    with pytest.raises(ConfigError, match="this run has no stage 'calibrate'"):
        override({"teacher": "t"}, ["stages=5", "calibrate.x=3"])
