"""The known tasks: the nine of GLUE (Wang et al., 2019) and IMDB (Maas et al., 2011).

A task is added in one place: an entry of `TASKS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .metrics import METRICS


@dataclass(frozen=True)
class Task:
    """A sentence or sentence-pair classification or regression task, in the layout of the Hub.

    `label_names[i]` names class i; () marks regression. `metrics` are the names that
    `compute_metrics` returns, the main one (used to select models) first. `label_range` bounds the
    scores of a regression. `glue_folder` is the task's folder in the TSV release of GLUE.
    """

    name: str
    text_columns: tuple[str, ...]
    label_column: str
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    hub_id: str | None
    hub_config: str | None
    train_split: str
    evaluation_splits: tuple[str, ...]
    label_range: tuple[float, float] | None = None
    glue_folder: str | None = None

    def __post_init__(self) -> None:
        if len(self.text_columns) not in (1, 2):
            raise ValueError(f"a task has one or two text columns, got {list(self.text_columns)}")
        if len(self.label_names) == 1:
            raise ValueError(f"a classification needs at least two labels, got {list(self.label_names)}")
        unknown = [metric for metric in self.metrics if metric not in METRICS]
        if unknown or not self.metrics:
            raise ValueError(f"metrics must be among {list(METRICS)} and at least one, got {list(self.metrics)}")

    @property
    def is_pair(self) -> bool:
        """Whether an example has two texts."""
        return len(self.text_columns) == 2

    @property
    def is_regression(self) -> bool:
        """Whether labels are scores, not classes."""
        return not self.label_names

    @property
    def num_labels(self) -> int:
        """Width of the classification head: the number of classes, 1 for regression."""
        return len(self.label_names) or 1

    @property
    def problem_type(self) -> str:
        """The value of `config.problem_type` in transformers."""
        return "regression" if self.is_regression else "single_label_classification"

    @property
    def main_metric(self) -> str:
        """Name of the metric that models are selected by."""
        return self.metrics[0]

    @property
    def group(self) -> str | None:
        """Last part of the Hub id: the folder that the tasks of one benchmark share."""
        return self.hub_id.split("/")[-1] if self.hub_id else None


def _glue(
    name: str,
    text_columns: tuple[str, ...],
    label_names: tuple[str, ...],
    metrics: tuple[str, ...],
    folder: str,
    evaluation_splits: tuple[str, ...] = ("validation",),
    label_range: tuple[float, float] | None = None,
) -> Task:
    return Task(
        name=name,
        text_columns=text_columns,
        label_column="label",
        label_names=label_names,
        metrics=metrics,
        hub_id="nyu-mll/glue",
        hub_config=name,
        train_split="train",
        evaluation_splits=evaluation_splits,
        label_range=label_range,
        glue_folder=folder,
    )


_PAIR = ("sentence1", "sentence2")
_ACCURACY = ("accuracy",)

# The main metric is the one that DistilBERT's GLUE table (Sanh et al., 2019) reports for the task;
# the further ones are the rest of GLUE's official metrics.
_TASKS = (
    _glue("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation",), "CoLA"),
    _glue("sst2", ("sentence",), ("negative", "positive"), _ACCURACY, "SST-2"),
    _glue("mrpc", _PAIR, ("not_equivalent", "equivalent"), ("f1", "accuracy"), "MRPC"),
    _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1"), "QQP"),
    _glue("stsb", _PAIR, (), ("pearson", "spearman"), "STS-B", label_range=(0.0, 5.0)),
    _glue(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        _ACCURACY,
        "MNLI",
        evaluation_splits=("validation_matched", "validation_mismatched"),
    ),
    _glue("qnli", ("question", "sentence"), ("entailment", "not_entailment"), _ACCURACY, "QNLI"),
    _glue("rte", _PAIR, ("entailment", "not_entailment"), _ACCURACY, "RTE"),
    _glue("wnli", _PAIR, ("not_entailment", "entailment"), _ACCURACY, "WNLI"),
    Task(
        name="imdb",
        text_columns=("text",),
        label_column="label",
        label_names=("neg", "pos"),
        metrics=_ACCURACY,
        hub_id="stanfordnlp/imdb",
        hub_config="plain_text",
        train_split="train",
        evaluation_splits=("test",),
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _TASKS}


def get_task(name: str) -> Task:
    """The task of that name; case, "-" and "_" do not matter ("SST-2" is "sst2"). Raises ValueError."""
    for known, task in TASKS.items():
        if _plain(known) == _plain(str(name)):
            return task
    raise ValueError(
        f"unknown task {name!r}; known: {', '.join(TASKS)}. For your own data use the task 'custom' "
        "with a folder that holds train and validation files, or with one file"
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
