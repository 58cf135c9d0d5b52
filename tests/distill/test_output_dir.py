"""Output folders: nothing overwritten, nothing half-written, the newest whole checkpoint found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModel

from inhibitor_transformers.common.settings import ConfigError
from inhibitor_transformers.distill.output_dir import RunFolder, save_atomically, save_into
from tests.distill.tiny import assert_same_weights, bert, bert_tokenizer, saved
from tests.full_disk import no_file_above

SETTINGS = {"seed": 0, "stages": [{"calibrate": {"lengths": [16]}}]}


def begin(output: Path, settings: dict[str, Any], *, resume: bool = False) -> None:
    with RunFolder(output, "distill", settings, resume=resume, overwrite=False) as folder:
        folder.create(settings)
        folder.finish()


class TestRunFolder:
    def test_a_new_folder_gets_its_settings(self, tmp_path):
        begin(tmp_path / "a" / "run", SETTINGS)
        assert yaml.safe_load((tmp_path / "a" / "run" / "run.yaml").read_text()) == {"inhibit": "distill"} | SETTINGS
        assert [p.name for p in (tmp_path / "a" / "run").iterdir()] == ["run.yaml"]

    def test_the_same_settings_resume_and_keep_what_is_there(self, tmp_path):
        begin(tmp_path / "run", SETTINGS)
        (tmp_path / "run" / "stages").mkdir()
        begin(tmp_path / "run", SETTINGS, resume=True)
        assert (tmp_path / "run" / "stages").is_dir()

    def test_a_setting_that_is_not_given_any_more_differs_too(self, tmp_path):
        """A rate that was given once and then forgotten would otherwise be the default from there on."""
        begin(tmp_path / "run", SETTINGS | {"learning_rate": 0.1})
        again = {"resume": True, "overwrite": False}
        with pytest.raises(ConfigError, match=r"other settings than this one \(learning_rate\)"):
            RunFolder(tmp_path / "run", "distill", SETTINGS, **again)
        RunFolder(tmp_path / "run", "distill", SETTINGS, **again, more_to_come=True)

    @pytest.mark.parametrize(
        ("changed", "named"),
        [({"seed": 1}, "seed"), ({"stages": []}, "stages"), ({"seed": 1, "new": 2}, "seed, new")],
    )
    def test_every_setting_that_differs_is_named(self, changed, named, tmp_path):
        begin(tmp_path / "run", SETTINGS)
        with pytest.raises(ConfigError, match=rf"other settings than this one \({named}\): resume with those, or use"):
            begin(tmp_path / "run", SETTINGS | changed, resume=True)

    def test_settings_that_were_to_come_are_compared_when_they_are_there(self, tmp_path):
        begin(tmp_path / "run", SETTINGS | {"texts": "1"})
        folder = RunFolder(tmp_path / "run", "distill", SETTINGS, resume=True, overwrite=False, more_to_come=True)
        with folder, pytest.raises(ConfigError, match=r"other settings than this one \(texts\)"):
            folder.create(SETTINGS | {"texts": "2"})
        assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["texts"] == "1"

    @pytest.mark.parametrize("content", [b"", b"[]", b"seed: [", b"a: 1: 2", b"\xff\xfe"])
    def test_a_damaged_record_cannot_be_resumed(self, content, tmp_path):
        begin(tmp_path / "run", SETTINGS)
        (tmp_path / "run" / "run.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"^[^\n]*run.yaml (is damaged, or was not written|cannot be read)"):
            begin(tmp_path / "run", SETTINGS, resume=True)


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
