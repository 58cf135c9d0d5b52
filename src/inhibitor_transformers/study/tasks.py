"""A task of a study: a known one or one's own data, how much of it, and how it is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..common.number_ranges import POSITIVE, check_numbers
from ..common.settings import build, require
from ..tasks import TASKS, TaskData, get_task, load_task
from ..tasks.own_data import CUSTOM


@dataclass(frozen=True)
class StudyTask:
    """An entry of `tasks`; what is not named here is a setting of the training.

    data: file or folder, instead of the study's. text_columns (one or two), label_column: of one's own data, where they
    are not found by their names. max_train_examples, max_eval_examples: how many to use.
    """

    name: str
    data: str | None = None
    text_columns: list[str] | None = None
    label_column: str | None = None
    max_train_examples: int | None = None
    max_eval_examples: int | None = None
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"tasks: {self.name}: "
        check_numbers(self, dict.fromkeys(("max_train_examples", "max_eval_examples"), POSITIVE), where)
        for name in ("data", "label_column"):
            value = getattr(self, name)
            text = value is None or (isinstance(value, str) and bool(value))
            require(text, f"{where}{name} must be a name, got {value!r}")
        columns = self.text_columns
        listed = columns is None or (isinstance(columns, list) and all(isinstance(c, str) for c in columns))
        require(listed, f"{where}text_columns must be one name or a list of two, got {columns!r}")
        if self.is_own:
            plain = re.fullmatch(r"\w[\w ,.+-]*", self.name) is not None  # it becomes a folder
            require(plain, f"tasks: a name must be of letters, digits, blanks and _,.+- and not {self.name!r}")
            known = f"it is none of the known tasks ({', '.join(TASKS)})"
            require(self.data is not None, f"{where}{known}; for your own data give it `data`, a file or folder")
        else:
            named = [name for name in ("text_columns", "label_column") if getattr(self, name) is not None]
            require(
                not named, f"{where}{' and '.join(named)} are of one's own data; call it otherwise than a known task"
            )

    @property
    def is_own(self) -> bool:
        """Whether this is one's own data, under a name of one's choice."""
        return not _is_known(self.name)

    def load(self, data_seed: int) -> TaskData:
        """The examples; those of one's own data bear the name that they have in the study. Raises as `load_task`."""
        loaded = load_task(
            CUSTOM if self.is_own else self.name,
            self.data,
            seed=data_seed,
            max_train_examples=self.max_train_examples,
            max_eval_examples=self.max_eval_examples,
            text_columns=self.text_columns,
            label_column=self.label_column,
        )
        if self.is_own:
            loaded.task = replace(loaded.task, name=self.name)
            loaded.notes = [re.sub(f"^{CUSTOM}:", f"{self.name}:", note) for note in loaded.notes]
        return loaded


def study_task(name: Any, given: Any, study_data: str | None) -> StudyTask:
    """The checked entry of a task. Raises ConfigError.

    study_data: the data of the study, which a known task takes, and the task "custom"; other names need their own.
    """
    require(isinstance(name, str), f"tasks: a name must be a text, got {name!r}")
    require(isinstance(given, dict | None), f"tasks: {name} must be a mapping of settings, got {given!r}")
    known = {f.name for f in fields(StudyTask)} - {"name", "training"}
    settings = {key: value for key, value in (given or {}).items() if key in known}
    settings["training"] = {key: value for key, value in (given or {}).items() if key not in known}
    if isinstance(settings.get("text_columns"), str):
        settings["text_columns"] = [settings["text_columns"]]
    if "data" not in settings and (_is_known(name) or name.lower() == CUSTOM):
        settings["data"] = study_data
    task: StudyTask = build(StudyTask, {"name": name} | settings, where=f"tasks: {name}")
    return task


def _is_known(name: str) -> bool:
    try:
        get_task(name)
    except ValueError:
        return False
    return True
