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

    def test_what_is_written_there_before_the_work_begins_stays(self, tmp_path: Path) -> None:
        with OutputDir(tmp_path / "out", "distill") as folder:
            (tmp_path / "out" / "file").write_text("of another")
            with pytest.raises(ConfigError, match="exists"):
                folder.create({})
        assert contents(tmp_path) == {"out/file": "of another"}

    @pytest.mark.parametrize("older", [False, True])
    def test_what_is_written_there_meanwhile_stays(self, older: bool, tmp_path: Path) -> None:
        """A thesis in a folder that was made while a model was quantized was deleted by the swap."""
        if older:
            write(tmp_path / "out", "old")

        def work() -> None:
            with OutputDir(tmp_path / "out", "quantize", resumable=False, overwrite=older) as folder:
                folder.create({})
                (folder.path / "file").write_text("new")
                (tmp_path / "out" / "thesis").write_text("mine")
                folder.finish()

        with pytest.raises(
            ConfigError, match=r"written to by somebody else meanwhile; what is finished is in .*partial"
        ):
            work()
        mine = {"out/thesis": "mine", "out/.partial/file": "new"}
        assert contents(tmp_path) == mine | ({"out/file": "old"} if older else {})

    @both
    def test_an_empty_folder_stays_the_folder_that_it_was(self, resumable: bool, tmp_path: Path) -> None:
        """It may be the current one, or a mount."""
        (tmp_path / "out").mkdir()
        before = (tmp_path / "out").stat().st_ino
        write(tmp_path / "out", "old", resumable=resumable)
        write(tmp_path / "out", "new", resumable=resumable, overwrite=True)
        assert (tmp_path / "out").stat().st_ino == before
        assert contents(tmp_path) == {"out/file": "new"}

    def test_folders_that_were_made_for_nothing_go(self, tmp_path: Path) -> None:
        with OutputDir(tmp_path / "a" / "b" / "out", "distill"):
            assert (tmp_path / "a" / "b" / "out" / ".lock").exists()
        assert list(tmp_path.iterdir()) == []


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
        assert contents(tmp_path / "out") == {"file": "old"} | ({".partial/file": "half"} if resumable else {})

    def test_an_interrupted_one_is_resumed_and_then_takes_its_place(self, tmp_path: Path) -> None:
        write(tmp_path / "out", "old")
        interrupt(tmp_path / "out", "half", overwrite=True)
        with OutputDir(tmp_path / "out", "distill", resume=True) as folder:
            assert folder.settings() == {"text": "half"}
            assert contents(tmp_path / "out") == {"file": "old", ".partial/file": "half", ".lock": ""}
            folder.create({"text": "half"})
            (folder.path / "file").write_text("whole")
            folder.finish()
            assert folder.path == tmp_path / "out"
        assert contents(tmp_path) == {"out/file": "whole"}

    def test_an_interrupted_one_is_not_forgotten(self, tmp_path: Path) -> None:
        interrupt(tmp_path / "out", "half", overwrite=True)  # nothing was there to be replaced
        assert contents(tmp_path) == {"out/file": "half"}
        interrupt(tmp_path / "out", "other", overwrite=True)
        with pytest.raises(ConfigError, match=r"\.partial holds an unfinished run of 'distill' that was to become"):
            OutputDir(tmp_path / "out", "distill")
        write(tmp_path / "out", "new", overwrite=True)
        assert contents(tmp_path) == {"out/file": "new"}

    def test_the_remains_of_a_killed_one_that_cannot_resume_go(self, tmp_path: Path) -> None:
        (tmp_path / "out" / ".partial").mkdir(parents=True)
        (tmp_path / "out" / ".partial" / "run.yaml").write_text("inhibit: export")
        with pytest.raises(ConfigError, match="an unfinished run of 'export'"):
            OutputDir(tmp_path / "out", "quantize", resumable=False)
        with OutputDir(tmp_path / "out", "export", resumable=False) as folder:
            folder.create({})
            folder.finish()
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.yaml"]

    @pytest.mark.parametrize("moves", range(6))
    @both
    def test_moves_that_were_cut_short_are_completed(
        self, moves: int, resumable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever rename was the last one, the next command finds the new run whole, and nothing of the old one."""
        write(tmp_path / "out", "old")
        (tmp_path / "out" / "more").write_text("old")
        rename, left = Path.rename, [moves]

        def killed(path: Path, target: Path) -> Path:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return rename(path, target)

        def overwrite() -> None:
            folder = OutputDir(tmp_path / "out", "distill", overwrite=True, resumable=resumable)
            folder.lock()
            folder.create({"text": "new"})
            (folder.path / "file").write_text("new")
            monkeypatch.setattr(Path, "rename", killed)
            folder.finish()

        with pytest.raises(KeyboardInterrupt):
            overwrite()
        monkeypatch.setattr(Path, "rename", rename)
        (tmp_path / "out" / ".lock").unlink(missing_ok=True)
        if moves == 0:
            assert contents(tmp_path / "out") == {"file": "old", "more": "old", ".partial/file": "new"}
            return
        with pytest.raises(ConfigError, match="exists; add --overwrite"):
            OutputDir(tmp_path / "out", "distill")
        assert contents(tmp_path) == {"out/file": "new"}
        assert read_run(tmp_path / "out") == {"inhibit": "distill", "text": "new"}

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

    def test_a_place_where_no_folder_can_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for output in ("file/out", "file/a/out"):
            with pytest.raises(ConfigError, match=r"cannot be made: .*file is a file"):
                OutputDir(tmp_path / output, "distill")

    def test_a_run_in_which_others_lie(self, tmp_path: Path) -> None:
        write(tmp_path / "runs", "old")
        write(tmp_path / "runs" / "more" / "inner", "mine")
        self.refused(tmp_path / "runs", r"holds another run, .*inner, which would be lost", overwrite=True)

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
            for flags in ({"resume": True}, {"overwrite": True}, {}):
                with pytest.raises(ConfigError, match="in use by another run"):
                    OutputDir(tmp_path / "out", "distill", **flags).lock()

    @pytest.mark.parametrize("commands", [("quantize", "quantize"), ("quantize", "finetune"), ("finetune", "export")])
    def test_two_that_start_at_once(self, commands: tuple[str, str], tmp_path: Path) -> None:
        """Both had ended with status 0, and the folder held the weights of one under the name of the other."""
        first, second = (OutputDir(tmp_path / "out", name, resumable=name == "finetune") for name in commands)
        with first:
            with pytest.raises(ConfigError, match="in use"):
                second.lock()
            first.create({"of": "first"})
            first.finish()
        assert read_run(tmp_path / "out") == {"inhibit": commands[0], "of": "first"}

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
        assert os.listdir(tmp_path / "out" / ".partial")
