"""Output folders: nothing overwritten, nothing half-written, the newest whole checkpoint found."""

from __future__ import annotations

import pytest
import yaml
from transformers import AutoModel

from inhibitor_transformers.distill.folders import (
    check_output,
    fingerprint,
    prepare_output,
    save_atomically,
    save_into,
)
from inhibitor_transformers.distill.settings import ConfigError
from tests.distill.tiny import assert_same_weights, bert, bert_tokenizer, saved
from tests.full_disk import no_file_above

SETTINGS = {"seed": 0, "stages": [{"calibrate": {"lengths": [16]}}]}


class TestOutput:
    def test_a_new_folder_gets_its_settings(self, tmp_path):
        prepare_output(tmp_path / "a" / "run", SETTINGS, resume=False, overwrite=False)
        assert yaml.safe_load((tmp_path / "a" / "run" / "run.yaml").read_text()) == SETTINGS
        assert [p.name for p in (tmp_path / "a" / "run").iterdir()] == ["run.yaml"]

    def test_checking_changes_nothing(self, tmp_path):
        check_output(tmp_path / "run", SETTINGS, resume=False, overwrite=False)
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "mine.txt").write_text("mine")
        check_output(tmp_path / "old", SETTINGS, resume=False, overwrite=True)
        assert sorted(p.name for p in tmp_path.rglob("*")) == ["mine.txt", "old"]

    def test_the_same_settings_resume_and_keep_what_is_there(self, tmp_path):
        prepare_output(tmp_path / "run", SETTINGS, resume=False, overwrite=False)
        (tmp_path / "run" / "stages").mkdir()
        prepare_output(tmp_path / "run", SETTINGS, resume=True, overwrite=False)
        assert (tmp_path / "run" / "stages").is_dir()

    def test_a_setting_that_is_not_given_any_more_differs_too(self, tmp_path):
        """A rate that was given once and then forgotten would otherwise be the default from there on."""
        prepare_output(tmp_path / "run", SETTINGS | {"learning_rate": 0.1}, resume=False, overwrite=False)
        with pytest.raises(ConfigError, match=r"other settings than this run \(learning_rate\)"):
            check_output(tmp_path / "run", SETTINGS, resume=True, overwrite=False)
        check_output(tmp_path / "run", SETTINGS, resume=True, overwrite=False, more_to_come=True)

    def test_resuming_what_never_started_starts_it(self, tmp_path):
        prepare_output(tmp_path / "run", SETTINGS, resume=True, overwrite=False)
        assert (tmp_path / "run" / "run.yaml").exists()

    @pytest.mark.parametrize(
        ("changed", "named"),
        [({"seed": 1}, "seed"), ({"stages": []}, "stages"), ({"seed": 1, "new": 2}, "seed, new")],
    )
    def test_every_setting_that_differs_is_named(self, changed, named, tmp_path):
        prepare_output(tmp_path / "run", SETTINGS, resume=False, overwrite=False)
        with pytest.raises(ConfigError, match=rf"other settings than this run \({named}\): resume with those, or use"):
            prepare_output(tmp_path / "run", SETTINGS | changed, resume=True, overwrite=False)

    @pytest.mark.parametrize("content", [b"", b"[]", b"seed: [", b"a: 1: 2", b"\xff\xfe"])
    def test_a_damaged_record_cannot_be_resumed(self, content, tmp_path):
        prepare_output(tmp_path / "run", SETTINGS, resume=False, overwrite=False)
        (tmp_path / "run" / "run.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"^[^\n]*run.yaml is damaged; this run cannot be resumed: start anew"):
            check_output(tmp_path / "run", SETTINGS, resume=True, overwrite=False)
        check_output(tmp_path / "run", SETTINGS, resume=False, overwrite=True)


class TestSaving:
    def test_a_folder_is_complete_or_not_there(self, tmp_path, monkeypatch):
        tokenizer = bert_tokenizer()

        def fail(*_):
            raise OSError("no space left on device")

        monkeypatch.setattr(tokenizer, "save_pretrained", fail)
        with pytest.raises(OSError, match="no space"):
            save_atomically(tmp_path / "student", bert(), tokenizer)
        assert list(tmp_path.iterdir()) == []
        monkeypatch.undo()
        save_atomically(tmp_path / "student", bert(), tokenizer)
        assert [p.name for p in tmp_path.iterdir()] == ["student"]

    def test_on_a_full_disk_the_older_one_stays(self, tmp_path):
        saved(bert(), tmp_path / "student")
        for save in (save_atomically, save_into):
            with no_file_above(20_000), pytest.raises(OSError, match=r"^cannot write [^\n]*: [^\n]*$"):
                save(tmp_path / "student", bert(seed=1), bert_tokenizer())
        assert [p.name for p in tmp_path.rglob("*") if p.is_dir()] == ["student"]
        assert_same_weights(tmp_path / "student", saved(bert(), tmp_path / "again"))

    def test_an_older_one_is_replaced(self, tmp_path):
        (tmp_path / "student").mkdir()
        (tmp_path / "student" / "old.txt").write_text("old")
        save_atomically(tmp_path / "student", bert(), bert_tokenizer())
        assert not (tmp_path / "student" / "old.txt").exists()

    def test_beside_what_is_there(self, tmp_path):
        (tmp_path / "run.yaml").write_text("seed: 0")
        (tmp_path / "model.safetensors").write_text("old")
        save_into(tmp_path, bert(), bert_tokenizer())
        assert (tmp_path / "run.yaml").read_text() == "seed: 0"
        assert not [p for p in tmp_path.iterdir() if p.is_dir()]
        AutoModel.from_pretrained(tmp_path)
        assert_same_weights(tmp_path, saved(bert(), tmp_path / "again"))


class TestFingerprint:
    def test_it_counts_and_depends_on_every_value_and_on_their_order(self):
        texts = ["a", "b", "c"]
        assert fingerprint(texts).startswith("3, ")
        assert fingerprint(texts) == fingerprint(iter(texts))
        others = [["a", "b"], ["a", "c", "b"], ["a", "b", "d"], ["ab", "c", ""], ["a\nb", "c", "c"]]
        assert len({fingerprint(texts), *(fingerprint(o) for o in others)}) == 6

    def test_any_text_can_be_taken(self):
        assert fingerprint(["\ud800", "é", "\x00"]).startswith("3, ")
