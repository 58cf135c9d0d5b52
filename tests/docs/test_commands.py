"""Every documented command, run with a tiny model, tiny data and few steps in place of those it names.

A command that reads what another makes finds it: its maker runs first, that of the same page if there is one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.conftest import Inhibit
from tests.conftest import REPOSITORY
from tests.distill.tiny import bert, saved, sentences, text_file
from tests.docs.commands import Call, Line, Local, call, calls_of, documents, reads, shown_lines, strings, task_files
from tests.evaluation import converted
from tests.hardware.gates.designs import needs_library, needs_yosys
from tests.tasks.modalities.tiny import png

pytestmark = pytest.mark.timeout(300)

# Programs of shell blocks that are not run here, and why.
NOT_RUN = {
    "cc": "a program in C: tests/examples/test_c.py",
    "cd": "changes nothing",
    "cmake": "a build: tests/attention/test_cpu.py",
    "export": "changes nothing",
    "git": "needs the network",
    "hf": "needs the network",
    "make": "installs, or runs these very tests",
    "pip": "needs the network",
    "python": "a script: tests/benchmarks, tests/experiments and tests/examples",
    "torchrun": "starts processes: tests/distill/test_two_processes.py",
}
QUICKSTART = "quickstart"  # what `inhibit quickstart` writes unless it is told otherwise

LINES = [line for document in documents() for line in shown_lines(document)]
# Those of `inhibit encrypted` need an environment of their own: tests/deploy/encrypted/engine/test_end_to_end.py.
COMMANDS = [line for line in LINES if line.words[0] == "inhibit" and line.words[1] != "encrypted"]
OTHERS = [line for line in LINES if line.words[0] != "inhibit"]


def _marks(line: Line) -> list[pytest.MarkDecorator]:
    if line.words[1] == "hardware":
        return [needs_library, needs_yosys]
    if line.words[1] == "quickstart":  # a real teacher: the one there is
        return [pytest.mark.slow, pytest.mark.timeout(1200)]
    return [pytest.mark.slow] if "aotinductor" in line.words else []  # which compiles


def goes_on(asked: Call) -> bool:
    """Whether it needs its own output folder, as an earlier run left it."""
    return bool(asked.parameters.get("resume") or asked.parameters.get("table_only"))


def begins(asked: Call) -> bool:
    """Whether it makes its output folder."""
    return asked.output is not None and not goes_on(asked) and not asked.parameters.get("dry_run")


class InThisProcess(Executor):
    """In place of the processes of a study, each of which would import torch anew."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, run, /, *arguments, **settings):
        future = Future()
        try:
            future.set_result(run(*arguments, **settings))
        except Exception as error:
            future.set_exception(error)
        return future


class Workspace:
    """One folder in which all commands run, as a reader's clone is one. ran: the words of those that did."""

    def __init__(self, folder: Path, local: Local, calls: dict[Line, Call]) -> None:
        self.folder, self.local, self.calls = folder, local, calls
        self.ran: dict[tuple[str, ...], Line] = {}

    def run(self, line: Line, inhibit: Inhibit) -> None:
        """Runs it once, after what makes the things that it reads."""
        cut = self.local.cut(call(line.words))
        words = tuple(cut.words())
        if words in self.ran:
            return
        needed = self._reads(cut) - {cut.output}
        if goes_on(cut):
            needed.add(cut.output)
        for output in sorted(needed):
            if not (self.folder / output).exists():
                self.run(self._maker(output, line), inhibit)
        if begins(cut):
            shutil.rmtree(self.folder / cut.output, ignore_errors=True)
        done = inhibit(*words)
        assert done.status == 0, f"{line.place}: inhibit {' '.join(words)}\n{done.out}\n{done.err}"
        self.ran[words] = line

    def _reads(self, cut: Call) -> set[str]:
        """The documented outputs that its parameters, or the settings in its configuration, name."""
        named = list(strings(cut.parameters))
        if config := cut.parameters.get("config"):
            named += strings(yaml.safe_load((self.folder / config).read_text(encoding="utf-8")))
        return set().union(*(reads(name, self.local.outputs) for name in named))

    def _maker(self, output: str, reader: Line) -> Line:
        """The command that writes it: the last one before `reader` on its page, or else the first of all."""
        makers = [line for line, asked in self.calls.items() if asked.output == output and begins(asked)]
        page, number = reader.place.split(":")
        here = [line for line in makers if line.place.split(":")[0] == page]
        before = [line for line in here if int(line.place.split(":")[1]) < int(number)]
        return (before[-1:] or here or makers)[0]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("commands")
    calls = calls_of(COMMANDS)
    outputs = {asked.output for asked in calls.values() if asked.output} | {QUICKSTART}
    tiny = saved(bert(max_position_embeddings=512), folder / "tiny")
    text = text_file(folder, sentences(200, clauses=(2, 20)))
    pairs = {"text": converted.gpt2(), "images": converted.vit()}
    reported = {kind: converted.saved(pair, folder / kind) for kind, pair in pairs.items()}
    photos = folder / "tiny-photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(png(0))
    local = Local(tiny, text, task_files(folder / "data"), folder / "own", outputs, reported, photos)
    for file in [*(REPOSITORY / "configs").rglob("*.yaml"), REPOSITORY / "experiments" / "recipe.yaml"]:
        copy = folder / file.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        settings = local.settings(yaml.safe_load(file.read_text(encoding="utf-8")))
        copy.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    threads = torch.get_num_threads()
    yield Workspace(folder, local, calls)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=line.place, marks=_marks(line)) for line in COMMANDS] or [pytest.param(None)]
)
def test_a_documented_command(line, workspace, inhibit, monkeypatch):
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setattr("inhibitor_transformers.study.run.ProcessPoolExecutor", InThisProcess)
    if not (workspace.folder / QUICKSTART).exists():  # as small as the rest, where a page goes on from there
        assert inhibit("convert", workspace.local.model, QUICKSTART, "--text", workspace.local.text).status == 0
    workspace.run(line, inhibit)


@pytest.mark.parametrize("line", [pytest.param(line, id=line.place) for line in OTHERS])
def test_another_program(line):
    """One that is known not to be run here; test_flags.py tests that what it names is there."""
    program = next(word for word in line.words if not re.fullmatch(r"[A-Z_]+=.*", word))
    assert program in NOT_RUN, f"{line.place}: {program} is neither run by this test nor excused"


def test_there_are_commands():
    """What finds them in the documents finds the tutorial's, at least."""
    assert any(line.place.startswith("docs/tutorial.md:") for line in COMMANDS)
