"""Settings from YAML and flags: what is wrong is said, in one sentence, before anything runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import yaml

from inhibitor_transformers.common.settings import RENAMED, ConfigError, Flag, build, load_yaml, override
from inhibitor_transformers.distill import DistillConfig
from inhibitor_transformers.distill.stages import STAGES
from inhibitor_transformers.distill.task.arguments import FinetuneArguments

RUN = {"teacher": "a/teacher", "text": ["texts.txt"], "stages": [{"calibrate": {}}, {"align_attention": {}}]}


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


class TestRenamed:
    """Nothing had been released: an old name does nothing, and is told by the new one."""

    @dataclass
    class Settings:
        pair_fraction: float = 0.0
        init_from: str | None = None

    @pytest.mark.parametrize(("old", "new"), [("pair_share", "pair_fraction"), ("start", "init_from")])
    def test_a_setting_is_told_by_its_new_name(self, old, new):
        with pytest.raises(ConfigError, match=f"^the run has no setting '{old}': it is called '{new}' now$"):
            build(self.Settings, {old: 0.5}, where="the run")

    def test_an_old_name_of_something_else_is_only_unknown(self):
        with pytest.raises(ConfigError, match=r"^the run has no setting 'fixed_scalars'$"):
            build(self.Settings, {"fixed_scalars": []}, where="the run")

    def test_a_stage_is_told_by_its_new_name(self):
        message = "this run has no stage 'align_contexts': it is called 'align_attention' now"
        with pytest.raises(ConfigError, match=f"^cannot set 'align_contexts.bf16': {message}$"):
            override(RUN, ["align_contexts.bf16=true"])

    @pytest.mark.parametrize("old", sorted(RENAMED.keys() - {"control"}))
    def test_the_new_name_is_there_and_the_old_one_is_not(self, old):
        classes = (DistillConfig, FinetuneArguments, *STAGES.values())
        known = {field.name for cls in classes for field in dataclasses.fields(cls)} | STAGES.keys()
        assert RENAMED[old] in known
        assert old not in known


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", b"teacher: 2020-13-45", b"[" * 5000, b"a: *b", b"- a", b""])
def test_a_file_that_is_no_yaml_is_named_in_one_line(content, tmp_path):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^[^\n]*run.yaml[^\n]+$"):
        load_yaml(tmp_path / "run.yaml")


def test_a_value_that_is_no_yaml():
    with pytest.raises(ConfigError, match="cannot read the value of 'seed=2020-13-45' as YAML"):
        override(RUN, ["seed=2020-13-45"])


def test_an_override_of_a_stage_where_stages_are_no_list():
    with pytest.raises(ConfigError, match="this run has no stage 'calibrate'"):
        override({"teacher": "t"}, ["stages=5", "calibrate.x=3"])
