"""Nothing is replaced but a run, and that only by one that is finished; one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from inhibitor_transformers.common import lock
from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.common.output_dir import OutputDir, read_run


def contents(folder: Path) -> dict[str, str]:
    """Every file but the run files, which all runs have."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.yaml")
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def write(output: Path, text: str, *, overwrite: bool = False, resumable: bool = True) -> None:
    with OutputDir(output, "distill", overwrite=overwrite, resumable=resumable) as folder:
        folder.create({"text": text})
        (folder.path / "file").write_text(text)
        folder.finish()


def interrupt(output: Path, text: str, **flags: bool) -> None:
    def work() -> None:
        with OutputDir(output, "distill", **flags) as folder:
            folder.create({"text": text})
            (folder.path / "file").write_text(text)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()


both = pytest.mark.parametrize("resumable", [True, False])


class TestNewFolder:
    @both
    def test_it_holds_what_was_written_and_says_what_wrote_it(self, resumable: bool, tmp_path: Path) -> None:
        write(tmp_path / "a" / "out", "new", resumable=resumable)
        assert contents(tmp_path) == {"a/out/file": "new"}
        assert yaml.safe_load((tmp_path / "a" / "out" / "run.yaml").read_text()) == {
            "inhibit": "distill",
            "text": "new",
        }
        assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"]

    @both
    def test_an_empty_folder_is_free(self, resumable: bool, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        write(tmp_path / "out", "new", resumable=resumable)
        assert contents(tmp_path) == {"out/file": "new"}

    def test_checking_changes_nothing(self, tmp_path: Path) -> None:
        OutputDir(tmp_path / "out", "distill")
        assert list(tmp_path.iterdir()) == []

    def test_one_that_cannot_resume_appears_whole_or_not_at_all(self, tmp_path: Path) -> None:
        interrupt(tmp_path / "out", "half", resumable=False)
        assert list(tmp_path.iterdir()) == []

    def test_one_that_can_resume_goes_on_where_it_was(self, tmp_path: Path) -> None:
        interrupt(tmp_path / "out", "half")
        with OutputDir(tmp_path / "out", "distill", resume=True) as folder:
            assert folder.settings() == {"text": "half"}
            folder.create({"text": "half"})
            assert contents(folder.path) == {"file": "half", ".lock": ""}
            folder.finish()
        assert contents(tmp_path) == {"out/file": "half"}

    def test_what_came_into_being_meanwhile_stays(self, tmp_path: Path) -> None:
        with OutputDir(tmp_path / "out", "distill") as folder:
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "file").write_text("of another")
            with pytest.raises(ConfigError, match="exists"):
                folder.create({})
        assert contents(tmp_path) == {"out/file": "of another"}


class TestOverwriting:
    @both
    def test_leaves_nothing_of_the_old_run(self, resumable: bool, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        (tmp_path / "out" / "more").write_text("old")
        write(tmp_path / "out", "new", overwrite=True, resumable=resumable)
        assert contents(tmp_path) == {"out/file": "new"}
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    @both
    def test_a_failure_leaves_the_old_run(self, resumable: bool, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        interrupt(tmp_path / "out", "half", overwrite=True, resumable=resumable)
        assert contents(tmp_path / "out") == {"file": "old"}
        assert (tmp_path / "out.partial").exists() == resumable

    def test_an_interrupted_one_is_resumed_and_then_takes_its_place(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        interrupt(tmp_path / "out", "half", overwrite=True)
        with OutputDir(tmp_path / "out", "distill", resume=True) as folder:
            assert folder.settings() == {"text": "half"}
            assert contents(tmp_path / "out") == {"file": "old", ".lock": ""}
            folder.create({"text": "half"})
            (folder.path / "file").write_text("whole")
            folder.finish()
            assert folder.path == tmp_path / "out"
        assert contents(tmp_path) == {"out/file": "whole"}

    def test_an_interrupted_one_is_not_forgotten(self, tmp_path: Path) -> None:
        interrupt(tmp_path / "out", "half", overwrite=True)  # nothing was there to be replaced
        assert contents(tmp_path) == {"out/file": "half"}
        interrupt(tmp_path / "out", "other", overwrite=True)
        with pytest.raises(ConfigError, match=r"out\.partial holds an unfinished run of 'distill' that was to become"):
            OutputDir(tmp_path / "out", "distill")
        write(tmp_path / "out", "new", overwrite=True)
        assert contents(tmp_path) == {"out/file": "new"}

    def test_the_remains_of_a_killed_one_that_cannot_resume_go(self, tmp_path: Path) -> None:
        (tmp_path / "out.partial").mkdir()
        (tmp_path / "out.partial" / "run.yaml").write_text("inhibit: export")
        with pytest.raises(ConfigError, match="an unfinished run of 'export'"):
            OutputDir(tmp_path / "out", "quantize", resumable=False)
        with OutputDir(tmp_path / "out", "export", resumable=False) as folder:
            folder.create({})
            folder.finish()
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_an_empty_folder_in_the_place_of_the_new_run(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        (tmp_path / "out.partial").mkdir()
        write(tmp_path / "out", "new", overwrite=True)
        assert contents(tmp_path) == {"out/file": "new"}

    def test_a_failed_swap_gives_the_old_run_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "out", "old")
        rename = Path.rename

        def fail_for_the_new_one(path: Path, target: Path) -> Path:
            if path.name == "out.partial":
                raise OSError("no")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
        with pytest.raises(OSError, match="no"):
            write(tmp_path / "out", "new", overwrite=True)
        assert contents(tmp_path) == {"out/file": "old", "out.partial/file": "new"}

    def test_a_link_to_a_run_stays_a_link(self, tmp_path: Path) -> None:
        write(tmp_path / "real", "old")
        (tmp_path / "link").symlink_to("real")
        write(tmp_path / "link", "new", overwrite=True)
        assert (tmp_path / "link").is_symlink()
        assert contents(tmp_path / "real") == {"file": "new"}


class TestRefusals:
    def refused(self, output: Path, message: str, **flags: bool) -> None:
        before = sorted(output.parent.rglob("*"))
        with pytest.raises(ConfigError, match=message):
            OutputDir(output, "distill", **flags)
        assert sorted(output.parent.rglob("*")) == before

    def test_a_run_unasked(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        self.refused(tmp_path / "out", r"exists; add --overwrite to replace the run in it, or choose another folder")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for flags in ({}, {"overwrite": True}, {"resume": True}):
            self.refused(tmp_path / "file", "is a file; choose another output folder", **flags)

    @pytest.mark.parametrize(
        "record", [None, "", "- a", "seed: 0", "inhibit: 3", "a: [", b"\xff\xfe", "inhibit: distill\ninhibit: [}"]
    )
    def test_what_is_no_run(self, record: str | bytes | None, tmp_path: Path) -> None:
        """A folder with a thesis in it was once deleted; run.yaml is a name that others use too."""
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
        if record is not None:
            (folder / "run.yaml").write_bytes(record if isinstance(record, bytes) else record.encode())
        self.refused(folder, "--overwrite replaces runs only, and .* is none", overwrite=True)
        self.refused(folder, "exists and holds no run: choose another folder")
        assert (folder / "thesis.txt").read_text() == "years of work"

    def test_what_is_no_run_in_the_place_of_the_new_one(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        (tmp_path / "out.partial").mkdir()
        (tmp_path / "out.partial" / "mine").write_text("mine")
        for output in ("out", "new"):
            (tmp_path / "new.partial").mkdir(exist_ok=True)
            (tmp_path / "new.partial" / "mine").write_text("mine")
            self.refused(tmp_path / output, "partial, where .* may have to be made, is no run", overwrite=True)
        self.refused(tmp_path / "new", "is no run")

    def test_a_run_in_which_others_lie(self, tmp_path: Path) -> None:
        write(tmp_path / "runs", "old")
        write(tmp_path / "runs" / "more" / "inner", "mine")
        self.refused(tmp_path / "runs", r"holds another run, .*inner, which would be lost", overwrite=True)

    def test_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "out", "old")
        (tmp_path / "out" / "inner").mkdir()
        for folder in (tmp_path / "out", tmp_path / "out" / "inner"):
            monkeypatch.chdir(folder)
            self.refused(tmp_path / "out", "current folder", overwrite=True)

    def test_resuming_what_is_not_there(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "out", "holds no run to resume: leave out --resume to start one", resume=True)
        (tmp_path / "out").mkdir()
        self.refused(tmp_path / "out", "holds no run to resume", resume=True)
        (tmp_path / "out" / "file").write_text("mine")
        self.refused(tmp_path / "out", r"holds no run to resume \(there is no run.yaml in it\)", resume=True)

    def test_resuming_and_overwriting_together(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "out", "give one of them", resume=True, overwrite=True)

    def test_resuming_the_run_of_another_command(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        with pytest.raises(ConfigError, match="a run of 'distill', which 'finetune' cannot resume"):
            OutputDir(tmp_path / "out", "finetune", resume=True).settings()

    def test_a_damaged_record(self, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text("a: [")
        with pytest.raises(ConfigError, match="cannot be read"):
            read_run(tmp_path)


class TestLock:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lock, "PATIENCE", 0.0)

    @pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}])
    def test_a_folder_in_use_is_refused(self, flags: dict[str, bool], tmp_path: Path) -> None:
        with OutputDir(tmp_path / "out", "distill") as folder:
            folder.create({})
            with pytest.raises(ConfigError, match="in use by another run"):
                OutputDir(tmp_path / "out", "distill", **flags).lock()
        OutputDir(tmp_path / "out", "distill", **flags).lock()

    def test_so_is_one_whose_replacement_is_in_the_making(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        with OutputDir(tmp_path / "out", "distill", overwrite=True) as folder:
            folder.create({})
            for flags in ({"resume": True}, {"overwrite": True}):
                with pytest.raises(ConfigError, match="in use by another run"):
                    OutputDir(tmp_path / "out", "distill", **flags).lock()

    def test_two_that_start_at_once(self, tmp_path: Path) -> None:
        with OutputDir(tmp_path / "out", "distill") as first, OutputDir(tmp_path / "out", "distill") as second:
            first.create({"of": "first"})
            with pytest.raises(ConfigError, match="in use"):
                second.create({"of": "second"})
        assert read_run(tmp_path / "out") == {"inhibit": "distill", "of": "first"}

    def test_a_killed_owner_holds_nothing(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; from inhibitor_transformers.common.output_dir import OutputDir\n"
            "folder = OutputDir(sys.argv[1], 'distill'); folder.lock(); folder.create({})\n"
            "os.kill(os.getpid(), 9)"
        )
        killed = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], check=False)
        assert killed.returncode != 0
        assert (tmp_path / "out" / ".lock").exists()
        with OutputDir(tmp_path / "out", "distill", resume=True) as folder:
            folder.create({})
            folder.finish()
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.yaml"]

    def test_a_folder_that_cannot_be_locked_is_released_whole(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        interrupt(tmp_path / "out", "half", overwrite=True)
        with OutputDir(tmp_path / "out", "distill", resume=True):
            pass
        assert not list(tmp_path.rglob(".lock"))
        assert os.listdir(tmp_path / "out.partial")
