"""No command writes over what it reads, whatever the flags: the worst that a command can do, with exit status 0."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from inhibitor_transformers.common import lock
from inhibitor_transformers.study.record import Record
from tests.cli.conftest import Inhibit
from tests.distill.tiny import reviews

Refused = Callable[..., str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: every input of every command, each marked as a run, so that only the check protects it.

    In zoo/: model/, teacher/, base/, data/train.csv, text/lines.txt, config.yaml, training.yaml and study.yaml.
    """
    zoo = tmp_path / "zoo"
    for name in ("model", "teacher", "base", "data", "text"):
        (zoo / name).mkdir(parents=True)
        (zoo / name / "run.yaml").write_text("inhibit: distill")
    (zoo / "model" / "config.json").write_text("{}")
    (zoo / "text" / "lines.txt").write_text("the cat sees a dog\n" * 20)
    rows = [f"{row['text']},{row['label']}" for row in reviews(20)]
    (zoo / "data" / "train.csv").write_text("\n".join(["text,label", *rows]))
    run = {"teacher": "zoo/teacher", "text": ["zoo/text"], "init_from": "zoo/model", "teacher_cache": "zoo/cache"}
    (zoo / "config.yaml").write_text(yaml.safe_dump(run | {"stages": [{"calibrate": {}}]}))
    (zoo / "training.yaml").write_text("max_length: 64")
    study = {"models": {"one": "zoo/model"}, "tasks": {"sst2": None}, "data": "zoo/data"}
    (zoo / "study.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "convert": (["convert", "zoo/teacher", "OUT", "--text", "zoo/text"], ["teacher", "text"]),
    "convert --softmax": (["convert", "zoo/teacher", "OUT", "--softmax"], ["teacher"]),
    "distill": (["distill", "zoo/config.yaml", "-o", "OUT"], ["teacher", "model", "text", "config.yaml", "cache"]),
    "finetune": (
        [
            *(
                "finetune",
                "zoo/model",
                "--task",
                "custom",
                "--data",
                "zoo/data",
                "-o",
                "OUT",
                "--teacher",
                "zoo/teacher",
            ),
            *("--teacher-base", "zoo/base", "--config", "zoo/training.yaml"),
        ],
        ["model", "data", "teacher", "base", "training.yaml"],
    ),
    "quantize": (["quantize", "zoo/model", "OUT", "--text", "zoo/text"], ["model", "text"]),
    "export": (["export", "zoo/model", "OUT"], ["model"]),
    "study": (["study", "zoo/study.yaml", "-o", "OUT"], ["model", "data", "study.yaml"]),
    "evaluate": (
        [
            *("evaluate", "zoo/model", "--teacher", "zoo/teacher", "--task", "agreement", "--data", "zoo/data"),
            *("--text", "zoo/text", "-o", "OUT"),
        ],
        ["model", "teacher", "data", "text"],
    ),
    "report": (
        ["report", "zoo/model", "--teacher", "zoo/teacher", "--text", "zoo/text", "-o", "OUT"],
        ["model", "teacher", "text"],
    ),
    "report --images": (
        ["report", "zoo/model", "--teacher", "zoo/teacher", "--images", "zoo/data", "-o", "OUT"],
        ["model", "teacher", "data"],
    ),
}
CASES = [(command, name) for command, (_, inputs) in COMMANDS.items() for name in inputs]


@pytest.mark.parametrize(("command", "name"), CASES)
def test_an_output_that_touches_an_input(command: str, name: str, refused: Refused, place: Path) -> None:
    """`finetune --data D -o D --overwrite` deleted the training data and said "saved in D"."""
    (place / "link").symlink_to("zoo")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    overwrite = [] if command == "study" else ["--overwrite"]
    for output in (f"zoo/{name}", f"link/{name}", "zoo", ".", f"zoo/{name}/new"):
        arguments = [output if a == "OUT" else a for a in COMMANDS[command][0]]
        for flags in ([], overwrite):
            assert "choose another output" in refused(*arguments, *flags)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_the_caches_of_a_fine_tuning(refused: Refused, place: Path) -> None:
    arguments = ["finetune", "minilm", "--task", "custom", "--data", "zoo/data", "--set", "teacher_cache=out/cache"]
    assert "contains the teacher cache" in refused(*arguments, "-o", "out")
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["convert", "distill", "finetune", "quantize", "export"])
def test_overwrite_replaces_runs_only(command: str, refused: Refused, place: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    arguments = ["mine" if a == "OUT" else a for a in COMMANDS[command][0]]
    assert "choose another folder" in refused(*arguments, "--overwrite")
    assert os.listdir("mine") == ["thesis.txt"]


@pytest.mark.parametrize("command", ["distill", "finetune", "study"])
def test_resuming_what_is_not_there_is_no_new_run(command: str, refused: Refused, place: Path) -> None:
    arguments = ["out" if a == "OUT" else a for a in COMMANDS[command][0]]
    assert "to resume" in refused(*arguments, "--resume")
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["convert", "distill", "finetune", "quantize", "export", "quickstart"])
def test_the_help_says_what_is_deleted(command: str, inhibit: Inhibit) -> None:
    told = "everything in the folder is deleted once the new run has finished"
    assert told in " ".join(inhibit(command, "--help").out.split())


@pytest.mark.parametrize(
    ("command", "flag"), [("distill", "--resume"), ("finetune", "--overwrite"), ("study", "--resume")]
)
def test_a_folder_in_use(
    command: str, flag: str, refused: Refused, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    Path("out").mkdir()
    settings = {"distill": yaml.safe_load(Path("zoo/config.yaml").read_text())}.get(command, {})
    Path("out/run.yaml").write_text(yaml.safe_dump({"inhibit": command} | settings))
    Path("out/study.yaml").write_text(json.dumps({}))
    monkeypatch.setattr("inhibitor_transformers.study.run.make_record", lambda config: Record({}, []))
    monkeypatch.setattr("inhibitor_transformers.study.run.require_same_study", lambda now, output: None)
    monkeypatch.setattr("inhibitor_transformers.distill.output_dir.RunFolder.require_same", lambda *_, **__: None)
    arguments = ["out" if a == "OUT" else a for a in COMMANDS[command][0]]
    if command == "finetune":
        arguments = ["finetune", "zoo/model", "--task", "custom", "--data", "zoo/data", "-o", "out"]
    with lock.FolderLock(Path("out")):
        assert "out is in use by another run" in refused(*arguments, flag)


@pytest.mark.parametrize("command", ["distill", "finetune"])
def test_a_late_error_comes_before_the_folder(command: str, refused: Refused, place: Path) -> None:
    """Trainer looks at its reporters and its optimizer when the folder is there already."""
    arguments = ["out" if a == "OUT" else a for a in COMMANDS[command][0]]
    stages = ["--set", "stages=[{align_attention: {}}]"] if command == "distill" else []
    assert "report_to: nope is not supported" in refused(*arguments, *stages, "--report-to", "nope")
    name = "align_attention.optim" if command == "distill" else "optim"
    assert "optim lomo: You need to install" in refused(*arguments, *stages, "--set", f"{name}=lomo")
    assert not Path("out").exists()


def test_a_dry_run_looks_at_the_output_too(refused: Refused, place: Path) -> None:
    dry = ["distill", "zoo/config.yaml", "--dry-run", "-o"]
    assert "is the teacher" in refused(*dry, "zoo/teacher")
    assert "is a file" in refused(*dry, "zoo/data/train.csv", "--set", "text=this-machine")
    assert "give one of them" in refused(*dry, "out", "--resume", "--overwrite")


@pytest.mark.parametrize("command", ["convert", "distill", "finetune", "quantize", "export", "study"])
def test_an_output_below_a_file(command: str, refused: Refused, place: Path) -> None:
    Path("file").write_text("mine")
    arguments = ["file/out" if a == "OUT" else a for a in COMMANDS[command][0]]
    assert "file is a file; choose another output folder" in refused(*arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_loop_of_links(command: str, refused: Refused, place: Path) -> None:
    """As an output or as an input: Path.resolve raised a RuntimeError of it."""
    Path("loop").symlink_to("loop")
    for output in ("loop", "loop/new"):
        assert "a loop of links" in refused(*(output if a == "OUT" else a for a in COMMANDS[command][0]))
    for name in ("zoo/model", "zoo/teacher", "zoo/data", "zoo/text"):
        arguments = ["out" if a == "OUT" else "loop" if a == name else a for a in COMMANDS[command][0]]
        if "loop" in arguments:
            assert "a loop of links" in refused(*arguments)
    assert not Path("out").exists()


def test_a_loop_of_links_within_a_model(refused: Refused, place: Path) -> None:
    Path("zoo/model/loop").symlink_to("loop")
    assert "zoo/model/loop is, or goes through, a loop of links" in refused("export", "zoo/model", "out")


@pytest.mark.parametrize("output", ["zoo/config.yaml/scores.json", "pipe"])
def test_scores_that_could_not_be_written(output: str, refused: Refused, place: Path) -> None:
    """A pipe was read, without end; a file above it showed after the measurement."""
    os.mkfifo("pipe")
    message = refused("evaluate", "minilm", "--task", "sst2", "-o", output)
    assert "cannot be written" in message or "is no regular file" in message
