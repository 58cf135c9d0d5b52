"""The table of a study: mean ± standard deviation over seeds, and what each row loses against its baseline."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

from ..evaluation.compare import SPEED_BATCH, SPEED_LENGTH
from ..evaluation.throughput import sequences_per_second
from ..models.pretrained import load_pretrained
from ..report import Table
from ..report.formatting import MISSING
from ..tasks import get_task
from .runs import Study


class Score(NamedTuple):
    """Mean and standard deviation (n − 1; 0 for one seed) of a metric, in percent."""

    mean: float
    deviation: float
    seeds: int


class MainScore(NamedTuple):
    """Name and value of a task's main metric."""

    metric: str
    value: float


class Drop(NamedTuple):
    """What a row loses against its baseline, in points: per task, on average, and at worst."""

    tasks: dict[str, float]
    mean: float
    largest: float


def score(study: Study, task: str, model: str) -> Score | None:
    """The task's main metric on the first evaluation split, over the finished seeds."""
    results = [result for run in study.runs(task, model) if (result := study.result(run)) is not None]
    if not results:
        return None
    values = [100 * _main_score(result).value for result in results]
    return Score(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


def _main_score(result: dict[str, Any]) -> MainScore:
    """The task's main metric, which comes first, on the first evaluation split."""
    scores: dict[str, float] = next(iter(result["scores"].values()))
    return MainScore(*next(iter(scores.items())))


def _main_metric(study: Study, task: str) -> list[str]:
    """Its name; of one's own data only once a result says whether that is classes or scores."""
    if not study.config.study_tasks[task].is_own:
        return [get_task(task).main_metric]
    runs = (run for model in study.config.rows for run in study.runs(task, model))
    return next(([_main_score(result).metric] for run in runs if (result := study.result(run)) is not None), [])


def drop(study: Study, model: str) -> Drop | None:
    """The loss against the row's baseline over the tasks that both have finished; None where there is none."""
    baseline = study.config.rows[model].baseline
    if baseline is None:
        return None
    losses = {}
    for task in study.config.tasks:
        ours, theirs = score(study, task, model), score(study, task, baseline)
        if ours is not None and theirs is not None:
            losses[task] = theirs.mean - ours.mean
    if not losses:
        return None
    return Drop(losses, statistics.fmean(losses.values()), max(losses.values()))


def score_table(study: Study) -> Table:
    """One row per model, one column per task with its main metric, and the mean of the tasks."""
    tasks = list(study.config.tasks)
    header = ["", *(" ".join((task, *_main_metric(study, task))) for task in tasks), "mean"]
    rows = []
    for model in study.config.rows:
        scores = [score(study, task, model) for task in tasks]
        known = [s.mean for s in scores if s is not None]
        mean = f"{statistics.fmean(known):.1f}" if len(known) == len(tasks) else MISSING
        rows.append([model, *map(_format_score, scores), mean])
    return Table(f"Scores, mean ± standard deviation over {len(study.config.seeds)} seeds", header, rows)


def drop_table(study: Study) -> Table:
    """What each row with a baseline loses against it."""
    tasks = list(study.config.tasks)
    rows = []
    for model, row in study.config.rows.items():
        lost = drop(study, model)
        if lost is not None:
            each = [f"{lost.tasks[task]:+.1f}" if task in lost.tasks else MISSING for task in tasks]
            rows.append([f"{row.baseline} − {model}", *each, f"{lost.mean:+.2f}", f"{lost.largest:+.1f}"])
    return Table("Loss against the baseline", ["", *tasks, "mean", "largest"], rows)


def rate_table(study: Study) -> Table:
    """The learning rates that the held-out part of the training data chose."""
    tasks = list(study.config.tasks)
    rows = []
    for model in study.config.rows:
        rates = [study.learning_rate(task, model) for task in tasks]
        rows.append([model, *(MISSING if rate is None else f"{rate:g}" for rate in rates)])
    return Table("Learning rates", ["", *tasks], rows)


def speed_table(study: Study) -> Table:
    """Sequences per second of each row's encoder, all of them in turn on the same tokens."""
    models = {row.model: load_pretrained(row.model) for row in study.config.rows.values()}
    speeds = sequences_per_second(models, SPEED_BATCH, SPEED_LENGTH)
    rows = [[name, f"{speeds[row.model]:.1f}"] for name, row in study.config.rows.items()]
    return Table("Throughput of the encoder", ["", f"sequences/s, {SPEED_BATCH} x {SPEED_LENGTH} tokens"], rows)


def _format_score(value: Score | None) -> str:
    if value is None:
        return MISSING
    return f"{value.mean:.1f}" + (f" ± {value.deviation:.1f}" if value.seeds > 1 else "")
