"""The commands that the documents show, and each of them on tiny models and data, cut to a few steps."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import yaml
from typer._click.exceptions import UsageError
from typer.main import get_command

from inhibitor_transformers.cli.app import app
from inhibitor_transformers.tasks.registry import TASKS, Task
from tests.conftest import REPOSITORY
from tests.distill.tiny import NOUNS, VERBS
from tests.docs.pages import CONFIGS, DOCS, PAGES, passages

_SHELL = {"bash", "console", "sh", "shell"}
_STAGE = {"max_steps": 2, "tokens_per_step": 64, "save_steps": 2, "logging_steps": 1, "tokens_per_length": 64}
# Enough for a teacher to be better than chance, which a distillation demands of it.
_TRAINING = {"num_train_epochs": 2, "alignment_epochs": 1, "max_length": 16, "per_device_train_batch_size": 8}
_TRAINING |= {"learning_rate": 3e-3, "learning_rates": [3e-3], "per_device_eval_batch_size": 16}
_TRAINING |= {"max_train_examples": 96, "max_eval_examples": 32}
_LENGTHS = [16, 32]
_GRADES = ("bad", "good", "dull", "bright")
_CLI = get_command(app)


class Line(NamedTuple):
    """A command as a document shows it. place: the file and the number of its line."""

    place: str
    words: tuple[str, ...]


class Call(NamedTuple):
    """A command of `inhibit` with its parameters by name, as typer reads them."""

    name: str
    parameters: dict[str, Any]

    @property
    def output(self) -> str | None:
        """What it writes."""
        path = self.parameters.get("output")
        return None if path is None else str(path)

    def words(self) -> list[str]:
        """The command line without "inhibit"."""
        words = [self.name]
        for parameter in _CLI.commands[self.name].params:
            value = self.parameters.get(parameter.name)
            if value is None or value == () or (parameter.param_type_name == "option" and value == parameter.default):
                continue
            if parameter.param_type_name == "argument":
                words += [str(x) for x in value] if isinstance(value, list | tuple) else [str(value)]
            elif isinstance(value, bool):
                words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
            else:
                for x in value if isinstance(value, list | tuple) else [value]:
                    words += [parameter.opts[0], str(x)]
        return words


def call(words: tuple[str, ...]) -> Call:
    """Reads a command line that begins with "inhibit". Raises click's UsageError for a flag that there is not."""
    name = words[1]
    context = _CLI.commands[name].make_context(name, list(words[2:]))
    return Call(name, dict(context.params))


def calls_of(lines: Iterable[Line]) -> dict[Line, Call]:
    """Those that can be read; another fails where it is run."""
    calls = {}
    for line in lines:
        with suppress(UsageError):
            calls[line] = call(line.words)
    return calls


def documents() -> list[Path]:
    """README, the tutorial, every other page, and the run configurations, whose first lines say how they are run."""
    first = [REPOSITORY / "README.md", DOCS / "index.md", DOCS / "tutorial.md"]
    return [*first, *(page for page in PAGES if page not in first), *CONFIGS]


def shown_lines(document: Path) -> list[Line]:
    """The commands of its code blocks (indented ones and those of a shell), or of a configuration's first comment."""
    text = document.read_text(encoding="utf-8")
    numbered = _comment(text) if document.suffix == ".yaml" else _blocks(text)
    lines, variables = [], {}
    for number, line in _joined(numbered):
        if assigned := re.fullmatch(r"([A-Z_]+)=(.*)", line):
            variables[assigned[1]] = " ".join(shlex.split(assigned[2], comments=True))
        elif words := tuple(shlex.split(Template(line.removeprefix("$ ")).safe_substitute(variables), comments=True)):
            lines.append(Line(f"{document.relative_to(REPOSITORY)}:{number}", words))
    return lines


def _comment(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("#"):
            return
        if line.startswith("# inhibit "):
            yield number, line[2:]


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """The lines of shell blocks; of blocks without a language, those that begin with `inhibit`."""
    for number, line, kind in passages(text):
        if "```" not in line and (kind in _SHELL or (kind == "code" and _is_ours(line))):
            yield number, line.strip()


def _is_ours(line: str) -> bool:
    return line.strip().removeprefix("$ ").startswith("inhibit ")


def _joined(numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """With lines that end in a backslash as one."""
    begun, whole = 0, ""
    for number, line in numbered:
        begun = begun if whole else number
        whole += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield begun, whole
            whole = ""


class Local:
    """Tiny models and data, and what they stand for.

    model, text: a folder and a file; data: a folder laid out as GLUE's and IMDB's; outputs: what documents write, which
    a later command reads as it is. converted: "text" and "images" to a converted student and its teacher. photos: a
    folder of pictures.
    """

    def __init__(
        self,
        model: str,
        text: str,
        data: Path,
        own: Path,
        outputs: set[str],
        converted: dict[str, tuple[str, str]],
        photos: Path,
    ) -> None:
        self.model, self.text, self.data, self.own, self.outputs = model, text, data, own, outputs
        self.converted, self.photos = converted, photos

    def cut(self, asked: Call) -> Call:
        """The same call, with tiny models and data in place of those of the Hub, and few steps."""
        values = dict(asked.parameters)
        if asked.name == "report":
            return self._cut_report(values)
        for name in ("model", "teacher", "teacher_base", "init_from"):
            if values.get(name):
                values[name] = self._model(values[name])
        if asked.name == "evaluate":
            values["models"] = [self._model(name) for name in values["models"]]
        if "text" in values and not (asked.name == "convert" and values.get("softmax")):
            one = isinstance(values["text"], str)
            needs = asked.name in ("convert", "quantize") or values["text"]
            values["text"] = self.text if one else [self.text] if needs else values["text"]
        if "data" in values and values.get("task") != "agreement":
            custom = values.get("task") == "custom"
            values["data"] = self._own(values) if custom else self.data
        if values.get("set_"):
            values["set_"] = [self._setting(setting) for setting in values["set_"]]
        small = {"steps": 2, "epochs": 2.0, "batch_size": 8, "learning_rate": 3e-3, "jobs": 1}
        values |= {name: value for name, value in small.items() if name in values}
        few = {"max_train_examples": 96, "max_eval_examples": 32, "max_texts": 16}
        values |= {name: value for name, value in few.items() if values.get(name) is not None}
        values |= {name: value for name, value in {"lengths": "16,32", "device": "cpu"}.items() if name in values}
        return Call(asked.name, values | {"threads": None if asked.name != "study" else 1})

    def _cut_report(self, values: dict[str, Any]) -> Call:
        kind = "images" if values["images"] else "text"
        student, teacher = self.converted[kind]
        values |= {"student": student, "teacher": teacher, "new_tokens": 4, "device": "cpu", "threads": None}
        return Call("report", values | ({"images": [self.photos]} if kind == "images" else {}))

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Those of a run or of a study, cut alike."""
        return {key: self._value(key, value) for key, value in settings.items()}

    def _setting(self, written: str) -> str:
        key, _, value = written.partition("=")
        cut = self._value(key.rpartition(".")[2], yaml.safe_load(value))
        return (
            f"{key}={yaml.safe_dump(cut, default_flow_style=True, width=10_000).removesuffix('...' + chr(10)).strip()}"
        )

    def _value(self, key: str, value: Any) -> Any:
        if key in ("teacher", "init_from", "model"):
            return self._model(value)
        if key == "text":
            return [self.text]
        if key == "data":
            return str(self.data)
        if key == "stages":
            return [{name: self._stage(given or {}) for name, given in stage.items()} for stage in value]
        if key == "models":
            return {name: self._row(row) for name, row in value.items()}
        if key == "tasks":
            return {name: self._task(given or {}) for name, given in list(value.items())[:1]}
        if key == "layers":
            return [0, 1] if isinstance(value, list) else value
        if key == "seeds":
            return value[:1]
        if key == "training":
            return self.settings(value) | {"max_length": 16}
        if key == "lengths":
            return _LENGTHS
        return (_STAGE | _TRAINING).get(key, value)

    def _stage(self, given: dict[str, Any]) -> dict[str, Any]:
        is_trained = bool(given.keys() & {"max_steps", "learning_rate", "tokens_per_step"})
        wanted = ("max_steps", "tokens_per_step", "logging_steps") if is_trained else ("tokens_per_length",)
        return self.settings(given) | {name: _STAGE[name] for name in wanted} | {"lengths": _LENGTHS}

    def _row(self, row: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(row, str):
            return self._model(row)
        cut = row | {"model": self._model(row["model"])}  # its teacher and control are names of other rows
        return cut | {name: self._value(name, row[name]) for name in ("training", "learning_rates") if name in row}

    def _task(self, given: dict[str, Any]) -> dict[str, Any]:
        return self.settings(given) | ({"data": str(self._own(given))} if "data" in given else {})

    def _model(self, name: str) -> str:
        if reads(name, self.outputs):
            return name
        assert not name.startswith(("runs/", ".")), f"no documented command makes {name}"
        assert not name.isupper(), f"{name} is a placeholder: name what a reader can have"
        return self.model

    def _own(self, settings: dict[str, Any]) -> Path:
        """A file of the user's own data, with the columns that are named."""
        texts = settings.get("text_columns") or ["text"]
        texts = [texts] if isinstance(texts, str) else list(texts)
        label = settings.get("label_column") or "label"
        file = self.own / f"{'-'.join([*texts, label])}.csv"
        if not file.exists():
            write_rows(file, [dict.fromkeys(texts, _text(i, i % 2)) | {label: i % 2} for i in range(120)])
        return file


def reads(value: str, outputs: set[str]) -> set[str]:
    """Those outputs that `value` is or lies in."""
    return {output for output in outputs if value == output or value.startswith(f"{output}/")}


def strings(value: Any) -> Iterator[str]:
    """Every string in settings or parameters; of an override, key=value, those of its value."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str | Path):
        yield str(value)
        if "=" in str(value):
            yield from strings(yaml.safe_load(str(value).partition("=")[2]))


def task_files(folder: Path) -> Path:
    """Every known task in tiny: folder/<group>/<name>/<split>.csv, as the documents lay out local data."""
    for task in TASKS.values():
        for split, count in ((task.train_split, 96), *((split, 32) for split in task.evaluation_splits)):
            rows = [_row(task, i) for i in range(count)]
            write_rows(folder / (task.group or "") / task.name / f"{split}.csv", rows)
    return folder


def _row(task: Task, i: int) -> dict[str, Any]:
    grade = i % (task.num_labels if task.label_names else len(_GRADES))
    low, high = task.label_range or (0, 0)
    label = grade if task.label_names else low + (high - low) * grade / (len(_GRADES) - 1)
    return {name: _text(i + j, grade) for j, name in enumerate(task.text_columns)} | {task.label_column: label}


def _text(i: int, grade: int) -> str:
    """A sentence of the tiny vocabulary whose adjective tells its grade."""
    return f"the {NOUNS[i % 12]} {VERBS[i % 8]} a {_GRADES[grade]} {_GRADES[grade]} {NOUNS[i * 5 % 12]}"


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        table = csv.DictWriter(opened, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
